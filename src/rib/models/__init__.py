"""Models: classifiers, their weights, and where they come from."""
