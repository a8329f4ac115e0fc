"""Numbers from right and wrong: pure functions and values over arrays."""
