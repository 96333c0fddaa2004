"""Model families: how to load, condition and call a denoiser."""
