"""Pairs judged by people: which are shown, and what their verdicts say."""
