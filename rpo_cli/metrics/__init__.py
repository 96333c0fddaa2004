"""Figures of an evaluation and of a dataset: numbers in, plain dictionaries out."""
