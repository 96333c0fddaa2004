"""One class per kind of model. Heavy libraries are imported here; nobody imports these at a file's top."""
