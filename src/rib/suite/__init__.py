"""Suites: what is compared, and how a suite file is loaded."""
