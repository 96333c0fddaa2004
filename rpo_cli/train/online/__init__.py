"""Methods that learn from trajectories of the model itself: sample, score, step; see `objective.py`."""
