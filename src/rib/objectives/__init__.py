"""Objectives: what a pretraining may minimise in place of the cross-entropy, one file each, found by themselves."""

from rib.objectives.base import Loss, Objective
from rib.registry import Registry

__all__ = ["OBJECTIVES", "Loss", "Objective"]

OBJECTIVES = Registry("rib.objectives", Objective, "objective")
"""Every objective by its name; a suite may name one of the user's as `package.module:Class`."""
