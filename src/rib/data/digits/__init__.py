"""The embedded world `digits`: nine domains rendered from scikit-learn's handwritten digits, no download."""

from collections.abc import Mapping

from rib.data.digits.domains import CLASSES, DOMAIN_TABLE, PRETRAINING_TABLE, STRENGTHS, WORLD_VERSION
from rib.data.digits.rendered import DigitPart, Rendered

DOMAINS: tuple[str, ...] = tuple(DOMAIN_TABLE)
PRETRAINING: tuple[str, ...] = tuple(PRETRAINING_TABLE)
DOMAIN_CLASSES: Mapping[str, tuple[int, ...]] = {name: row.classes for name, row in DOMAIN_TABLE.items()}
FAMILY: Mapping[str, str] = {name: row.stream for name, row in DOMAIN_TABLE.items()}

CORRUPTIONS: tuple[str, ...] = tuple(STRENGTHS)


def render(domain: str, part: DigitPart, count: int | None = None) -> Rendered:
    """Render a domain's tuning pool or test set, or a pretraining set; `count` cuts it to a prefix.

    Prefixes of a tuning pool are balanced over the domain's classes. A scan is in one part only.
    """
    from rib.data.digits import rendering  # torch is imported when the first image is drawn, not by a listing

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
