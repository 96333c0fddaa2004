"""Pairs: found, judged, written as the dataset, exported and pushed."""
