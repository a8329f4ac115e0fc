"""Sample: the examples of a data set that an analysis reads."""

from __future__ import annotations

from rib.data.examples import Examples
from rib.data.splits import named_generator


def sample(examples: Examples, most: int) -> Examples:
    """At most `most` examples in a random order that is the same for every analysis and model; smaller samples are
    prefixes of larger ones."""
    order = named_generator("analysis", len(examples)).permutation(len(examples))
    return examples.take(order[:most])
