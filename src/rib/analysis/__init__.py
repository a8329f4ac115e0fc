"""Analyses: looks inside models, one file each. A module dropped in here is found by itself."""

from rib.analysis.base import Analysis, Scene, Seen, Values
from rib.registry import Registry

ANALYSES = Registry(__name__, Analysis, "analysis")

__all__ = ["ANALYSES", "Analysis", "Scene", "Seen", "Values"]
