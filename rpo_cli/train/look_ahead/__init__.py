"""What a training will take, before it begins."""
