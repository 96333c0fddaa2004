"""Trainings of several methods and seeds, and the differences between them."""
