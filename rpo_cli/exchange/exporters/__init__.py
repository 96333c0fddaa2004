"""One module per kind of file that other tools read; each writes a dataset of rpo into an empty folder."""
