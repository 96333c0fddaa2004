"""Models compared on equal prompts and equal start noise, and what a dataset's labels are worth."""
