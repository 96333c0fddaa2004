"""The review server: a local page that judges pairs blind, side by side (`rpo review`)."""
