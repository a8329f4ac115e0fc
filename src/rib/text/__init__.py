"""Text for people: what a terminal can show, and short names."""
