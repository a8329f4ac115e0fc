"""The embedded world `digits`: nine domains that RIB renders from scikit-learn's handwritten digits, without a
download.
"""

from collections.abc import Mapping

from rib.data.digits.domains import CLASSES, DOMAIN_TABLE, PRETRAINING_TABLE, STRENGTHS, WORLD_VERSION
from rib.data.digits.rendered import DigitPart, Rendered

DOMAINS: tuple[str, ...] = tuple(DOMAIN_TABLE)
PRETRAINING: tuple[str, ...] = tuple(PRETRAINING_TABLE)
DOMAIN_CLASSES: Mapping[str, tuple[int, ...]] = {name: row.classes for name, row in DOMAIN_TABLE.items()}
FAMILY: Mapping[str, str] = {name: row.stream for name, row in DOMAIN_TABLE.items()}

CORRUPTIONS: tuple[str, ...] = tuple(STRENGTHS)


def render(domain: str, part: DigitPart, count: int | None = None) -> Rendered:
    """Render a domain's tuning pool, its test set, or a pretraining set.

    Args:
        domain: a domain, or a pretraining set.
        part: the part of the scans to render.
        count: only the first `count` images; None for all. Prefixes of a tuning pool are balanced over the domain's
            classes.

    Returns:
        The images uint8 (N, 28, 28, 3), labels and scans. A scan is in one part only.
    """
    from rib.data.digits import rendering  # imported here so that listings need no torch

    return rendering.render(domain, part, count)


__all__ = [
    "CLASSES",
    "CORRUPTIONS",
    "DOMAINS",
    "DOMAIN_CLASSES",
    "FAMILY",
    "PRETRAINING",
    "WORLD_VERSION",
    "DigitPart",
    "Rendered",
    "render",
]
