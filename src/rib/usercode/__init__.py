"""User code: the content of the user's modules with builders, methods, analyses or objectives."""
