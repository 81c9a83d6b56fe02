"""Building blocks of the networks: torch only, tokens in, tokens out."""
