"""Upkeep: operations on a whole store: verify, remove garbage, archive, merge, repeat steps."""
