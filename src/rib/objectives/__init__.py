"""Objectives: losses that a pretraining may minimise instead of the cross-entropy, one file each."""

from rib.objectives.base import Loss, Objective
from rib.registry import Registry

__all__ = ["OBJECTIVES", "Loss", "Objective"]

OBJECTIVES = Registry("rib.objectives", Objective, "objective")
"""Every objective by its name; a suite may name a user's objective as `package.module:Class`."""
