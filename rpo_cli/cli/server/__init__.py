"""The pages of `rpo review`, served on this machine."""
