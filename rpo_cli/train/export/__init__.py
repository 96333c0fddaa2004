"""A finished training as files that others read."""
