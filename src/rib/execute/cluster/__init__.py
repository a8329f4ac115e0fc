"""Drivers on the machines of a cluster (docs/clusters.md)."""
