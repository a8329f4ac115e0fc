"""The embedded world `digits`: nine domains rendered from scikit-learn's handwritten digits, no download."""

from collections.abc import Mapping

from rib.data.digits.corruptions import CORRUPTIONS
from rib.data.digits.domains import CLASSES, DOMAIN_TABLE, PRETRAINING_TABLE
from rib.data.digits.draws import WORLD_VERSION
from rib.data.digits.rendering import Rendered, render

DOMAINS: tuple[str, ...] = tuple(DOMAIN_TABLE)
PRETRAINING: tuple[str, ...] = tuple(PRETRAINING_TABLE)
DOMAIN_CLASSES: Mapping[str, tuple[int, ...]] = {name: row.classes for name, row in DOMAIN_TABLE.items()}
FAMILY: Mapping[str, str] = {name: row.stream for name, row in DOMAIN_TABLE.items()}

__all__ = [
    "CLASSES",
    "CORRUPTIONS",
    "DOMAINS",
    "DOMAIN_CLASSES",
    "FAMILY",
    "PRETRAINING",
    "WORLD_VERSION",
    "Rendered",
    "render",
]
