"""Locations of the published sets on this machine. They are never part of a result's identity."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from rib.errors import UserError, nearest
from rib.files import expanded, read_toml
from rib.given import perhaps_at_home
from rib.recipe import Frozen


class Place(Frozen):
    """Location of a set: at most one of a folder, Parquet files and tar shards."""

    folder: str | None = Field(None, description="folder tree, laid out as published")
    parquet: str | None = Field(None, description="folder or pattern of Parquet files")
    shards: str | None = Field(None, description="folder or pattern of WebDataset tar shards")
    allow_incomplete: bool = Field(False, description="accept a copy with missing images; every result says so")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(path is not None for path in (self.folder, self.parquet, self.shards)) > 1:
            raise ValueError("give at most one of folder, parquet, shards")
        return self

    @property
    def kind(self) -> str | None:
        """The kind of container that is given: "folder", "parquet" or "shards"; None without one."""
        return next((kind for kind in ("folder", "parquet", "shards") if getattr(self, kind) is not None), None)

    def path(self, base: Path) -> Path | None:
        """The given path with variables expanded; a relative one starts from `base`."""
        return expanded(base, getattr(self, self.kind)) if self.kind else None


def config_files() -> list[Path]:
    """Existing configuration files in order of priority: that of the working folder, then the user's."""
    home = perhaps_at_home(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    return [path for path in (Path.cwd() / "rib.toml", home / "rib" / "config.toml") if path.is_file()]


def configured(name: str, known: Mapping[str, object]) -> tuple[Place, Path] | None:
    """The location of a set in the environment or a configuration file, and the folder that its relative path starts
    from.

    Args:
        name: such as "imagenet:v2".
        known: all valid names.

    Raises:
        UserError: a configuration file cannot be read, or names an unknown set.
    """
    if text := os.environ.get(variable(name)):
        return Place(folder=text), Path.cwd()
    for file in config_files():
        places = _read(file, known)
        if name in places:
            return places[name], file.parent
    return None


def variable(name: str) -> str:
    """The environment variable for the path of a set: RIB_PATH_IMAGENET_V2."""
    return "RIB_PATH_" + re.sub(r"\W", "_", name).upper()


def _read(file: Path, known: Mapping[str, object]) -> dict[str, Place]:
    document = read_toml(file, "the configuration file")
    table = document.get("paths", {})
    if not isinstance(table, dict):
        raise UserError(f"{file}: [paths] is a table", got=table, valid='"imagenet:v2" = "/data/v2"')
    for name in table:
        if name not in known:
            near = nearest(name, known, "data set")
            raise UserError(f"{file}: [paths] names no data set", got=name, valid=near.valid, remedy=near.remedy)
    return {name: _place(file, name, value) for name, value in table.items()}


def _place(file: Path, name: str, value: object) -> Place:
    try:
        return Place.model_validate({"folder": value} if isinstance(value, str) else value)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{file}: [paths] {name!r}: {first['msg'].removeprefix('Value error, ')}",
            got=".".join(str(part) for part in first["loc"]) or value,
            valid="a path, or a table with one of folder, parquet, shards, and allow_incomplete",
        ) from None
