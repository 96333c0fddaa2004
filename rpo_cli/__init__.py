"""rpo: rich preference datasets for text-to-image models."""

__version__ = "0.1.0"
