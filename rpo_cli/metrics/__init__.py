"""Numbers of an evaluation and of a dataset: arrays in, plain dictionaries out."""
