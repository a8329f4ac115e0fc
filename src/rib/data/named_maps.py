"""Label maps that have a name: shipped maps for ImageNet's classes, and TOML files of the user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from rib.data.classes import class_name
from rib.errors import UserError
from rib.files import expanded, read_toml

MAPS: Mapping[str, Path] = MappingProxyType(
    {f"imagenet:{file.stem}": file for file in sorted((Path(__file__).parent / "maps").glob("*.toml"))}
)
"""The shipped maps, by name. Each file cites its source."""

Targets = dict[str, tuple[str, ...]]


def read_map(name: str, base: Path) -> Targets:
    """The reference classes that stand for each class.

    Args:
        name: a shipped map, or a TOML file with a line `class = "reference class"` or a list of them per class.
        base: the folder that relative paths start from; environment variables in paths are expanded.

    Raises:
        UserError: there is no map of that name, or the file has another form.
    """
    path = MAPS.get(name)
    if path is None:
        if not name.endswith(".toml"):
            raise UserError(f"there is no label map {name!r}", got=name, valid=f"{', '.join(MAPS)}, or a .toml file")
        path = expanded(base, name)
    table = read_toml(path, "the label map")
    return targets_of({label: _names(label, value, path) for label, value in table.items()})


def targets_of(labels: Mapping[str, str | tuple[str, ...]]) -> Targets:
    """A map in which every value is a tuple, and every name is in the form of `class_name`.

    Raises:
        UserError: two labels have one name in that form.
    """
    each = {label: (to,) if isinstance(to, str) else to for label, to in labels.items()}
    found = {class_name(label): tuple(class_name(one) for one in to) for label, to in each.items()}
    if len(found) < len(each):
        twice = next(label for label in found if sum(class_name(one) == label for one in each) > 1)
        raise UserError(f"a label map has two lines for the class {twice!r}, written with different characters")
    return found


def _names(label: str, value: object, path: Path) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"the label map {path} is no table of names",
            got=f"{label} = {value!r}",
            valid='lines such as  dog = ["n02085620", "n02085782"]  or  horse = "n02389026"',
        )
    return names
