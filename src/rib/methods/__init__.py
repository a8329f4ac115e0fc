"""Methods: one file each. A module dropped in here is found by itself; a suite may name one of the user's."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache

from rib.errors import UserError, nearest
from rib.identity import import_object
from rib.methods.base import MergedMethod, Method, Task, TrainedMethod

__all__ = ["MergedMethod", "Method", "Task", "TrainedMethod", "find_method", "registered"]


@cache
def registered() -> dict[str, type[Method]]:
    """Every method in this package, by name."""
    found: dict[str, type[Method]] = {}
    for module in pkgutil.iter_modules(__path__):
        for kind in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if inspect.isclass(kind) and issubclass(kind, Method) and "name" in vars(kind):
                found[kind.name] = kind
    return found


def find_method(kind: str) -> type[Method]:
    """The method class of that name, or the user's own, named as `package.module:Class`.

    Raises:
        UserError: there is none.
    """
    if ":" not in kind:
        if kind not in registered():
            raise nearest(kind, registered(), "method")
        return registered()[kind]
    found = import_object(kind, "method")
    if not (inspect.isclass(found) and issubclass(found, Method)):
        raise UserError(f"{kind!r} is no method", got=type(found).__name__, valid="a subclass of rib.methods.Method")
    if inspect.isabstract(found) or not isinstance(getattr(found, "name", None), str):
        lacks = ", ".join(sorted(found.__abstractmethods__)) or "name"
        raise UserError(f"the method {kind!r} is not complete", got=f"no {lacks}", valid="`name` and `fit`")
    return found
