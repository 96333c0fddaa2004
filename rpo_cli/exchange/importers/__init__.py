"""One module per format of other people's data; each opens a source or says that it is none of its own."""
