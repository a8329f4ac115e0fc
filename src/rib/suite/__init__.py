"""What is compared: a suite, and how it is loaded."""
