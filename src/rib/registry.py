"""Registry: the classes of a room with one file per class. A new module in its folder is found without registration."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cached_property
from typing import Generic, TypeVar

from rib.errors import UserError, nearest
from rib.given import text_in
from rib.identity import import_object

T = TypeVar("T")


class Registry(Generic[T]):
    """The names that a suite can use for one kind of class.

    Args:
        package: name of the package whose modules contain the classes.
        base: base class of all of them.
        noun: word for one of them, for error messages.
    """

    def __init__(self, package: str, base: type[T], noun: str) -> None:
        self.package, self.base, self.noun = package, base, noun

    @cached_property
    def classes(self) -> dict[str, type[T]]:
        """Every subclass of the base in the package's modules that defines a `name`, by that name.

        A class whose `listed` is False is left out, so no suite can name it.
        """
        found: dict[str, type[T]] = {}
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            for kind in vars(importlib.import_module(f"{self.package}.{module.name}")).values():
                if not (inspect.isclass(kind) and issubclass(kind, self.base) and "name" in vars(kind)):
                    continue
                if getattr(kind, "listed", True):
                    found[vars(kind)["name"]] = kind
        return found

    def find(self, name: str) -> type[T]:
        """The class with that name, or the user's own class, named as `package.module:Class`.

        Raises:
            UserError: there is no such class, or it is abstract.
        """
        if ":" not in text_in(name, f"the name of a {self.noun}"):
            if name not in self.classes:
                raise nearest(name, self.classes, self.noun)
            return self.classes[name]
        found = import_object(name, self.noun)
        if not (inspect.isclass(found) and issubclass(found, self.base)):
            valid = f"a subclass of {self.package}.{self.base.__name__}"
            raise UserError(f"{name!r} is no {self.noun}", got=type(found).__name__, valid=valid)
        if inspect.isabstract(found) or not isinstance(getattr(found, "name", None), str):
            lacks = ", ".join(sorted(getattr(found, "__abstractmethods__", ()))) or "name"
            wanted = ", ".join(f"`{field}`" for field in ("name", *sorted(_abstract(self.base))))
            raise UserError(f"the {self.noun} {name!r} is not complete", got=f"no {lacks}", valid=wanted)
        return found


def _abstract(kind: type[object]) -> frozenset[str]:
    return getattr(kind, "__abstractmethods__", frozenset())
