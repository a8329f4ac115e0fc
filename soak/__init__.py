"""Soaks: long versions of tests that search for rare faults at random. Each prints its seed, its number of cases and
its time."""
