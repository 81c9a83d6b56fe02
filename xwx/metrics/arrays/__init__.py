"""Statistics of plain arrays, at each point or over weighted points: axes, no labels."""
