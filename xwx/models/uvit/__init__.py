"""A U-shaped network of convolutions and space-time attention on windows of maps: torch only."""
