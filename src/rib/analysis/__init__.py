"""Analyses: measurements inside models, one file each. RIB finds every module in this folder by itself."""

from rib.analysis.base import Analysis, Scene, Seen, Values
from rib.registry import Registry

ANALYSES = Registry(__name__, Analysis, "analysis")

__all__ = ["ANALYSES", "Analysis", "Scene", "Seen", "Values"]
