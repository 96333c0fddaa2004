"""Other people's pictures and judgements as rows of the run."""
