"""Sampling from a diffusion prior, free or guided by observations, for any network."""
