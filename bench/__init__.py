"""Benchmarks: every goal of speed as a ratio to a named peer, measured in the same process and run."""
