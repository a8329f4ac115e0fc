"""Benchmarks: every goal of speed as a ratio against something named, measured in the same process and run."""
