"""A suite, and how it is loaded."""
