"""Methods, one file each. RIB finds every module in this folder; a suite may also name a user's method."""

from rib.methods.base import Ingredient, Method, Passes, Task, TrainedMethod
from rib.methods.merging import MergeContext, MergedMethod, Merging, SetMerge
from rib.registry import Registry
from rib.training.hooks import FeatureTerm, SecondPass, StepHook

METHODS = Registry(__name__, Method, "method")

__all__ = [
    "METHODS",
    "FeatureTerm",
    "Ingredient",
    "MergeContext",
    "MergedMethod",
    "Merging",
    "Method",
    "Passes",
    "SecondPass",
    "SetMerge",
    "StepHook",
    "Task",
    "TrainedMethod",
]
