"""Results: what the records of a plan say, as plain values and sentences. Nothing here draws, prints or writes."""
