"""Studies: one file each. Each asks one question, derives the suite that answers it, and reads the answer off it."""

from rib.registry import Registry
from rib.studies.base import Study

STUDIES = Registry(__name__, Study, "study")

__all__ = ["STUDIES", "Study"]
