"""Methods: one file each. A module dropped in here is found by itself; a suite may name one of the user's."""

from rib.methods.base import MergedMethod, Method, Passes, Task, TrainedMethod
from rib.registry import Registry

METHODS = Registry(__name__, Method, "method")

__all__ = ["METHODS", "MergedMethod", "Method", "Passes", "Task", "TrainedMethod"]
