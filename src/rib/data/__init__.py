"""Data: examples, label maps, and the sources they come from."""
