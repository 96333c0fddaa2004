"""Preference fine-tuning of diffusion models."""
