"""Objectives: what is minimised, as parts with their sources."""
