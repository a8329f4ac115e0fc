"""Soaks: long forms of tests that look for rare faults at random. Each prints its seed, its cases and its time."""
