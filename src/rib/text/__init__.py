"""Text for users: what a terminal can show, and short names."""
