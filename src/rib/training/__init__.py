"""Training: the loop that changes a net's weights, its checkpoints, and the loops that predict with a net."""
