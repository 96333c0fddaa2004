"""How the embedded models are trained: `make shapes-models`. Not in the wheel."""
