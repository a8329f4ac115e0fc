"""Sample: which of a data set's examples an analysis looks at."""

from __future__ import annotations

from rib.data.examples import Examples
from rib.data.splits import named_generator


def sample(examples: Examples, most: int) -> Examples:
    """At most `most` examples in a random order: the same for every analysis and model, nested in number."""
    order = named_generator("analysis", len(examples)).permutation(len(examples))
    return examples.take(order[:most])
