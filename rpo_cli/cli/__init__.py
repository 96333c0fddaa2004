"""The door: reads options, calls one function of the line, prints. One module per command."""
