"""Results: the content of a plan's records, as plain values and sentences. Nothing here draws, prints or writes."""
