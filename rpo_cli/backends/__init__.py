"""One class per kind of model. Heavy libraries are imported here, and nobody imports these at a file's top."""
