"""A training that makes its own pairs: the line walked once a round."""
