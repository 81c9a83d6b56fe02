"""What a user may demand of a sample, in xarray and units; each becomes a diffusion operator."""
