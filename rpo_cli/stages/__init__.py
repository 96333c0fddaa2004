"""Steps of the line as pure functions from tasks to rows or rejects: no I/O, no model code."""
