"""`rib data`: check data sets, decode them, corrupt them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from rib.cli.inputs import bytes_in, names_in, plan_of
from rib.cli.options import STORE, DataPath, Json, ModelNames, PackBudget, SeedsOption, StorePath, SuiteName
from rib.cli.output import with_progress
from rib.errors import UserError, nearest
from rib.files import json_text
from rib.text.terminal import console

if TYPE_CHECKING:
    from rich.status import Status

    from rib.data.catalogue import DataRow
    from rib.data.overlap import Roles
    from rib.data.views import View


def data_check(
    what: Annotated[str, typer.Argument(help="a suite, or a data set such as imagenet:v2")],
    data: DataPath = None,
    store: StorePath = STORE,
    deep: Annotated[bool, typer.Option("--deep", help="decode every image, and search for near copies")] = False,
    as_json: Json = False,
) -> None:
    """Check that data sets are present, complete and readable, and list shared images. Exit code 1 on a fault."""
    from rib.data.check import check, check_overlaps
    from rib.report.data_check import check_json, check_table

    rows, base, roles, views = _data_rows(what, data)
    cache = store / "facts" if (store / "facts").is_dir() else None
    found = []
    with console(stderr=True).status("checking the data") as status:
        for name, row in rows.items():
            status.update(Text(f"checking {name}"))
            found.append(check(name, row, base, deep, DecodeStatus(status, name), views))
        status.update("searching for images in common")
        shared = check_overlaps(rows, found, roles, base, cache, deep)
    if as_json:
        print(json_text(check_json(found, shared)))
    else:
        console(highlight=False).print(check_table(found, shared))
    if not all(checked.fine for checked in found) or any(one.refused for one in shared):
        raise typer.Exit(1)


def data_fetch(
    what: Annotated[str, typer.Argument(help="snippets: rated sentences of four domains")],
    data: DataPath = None,
    file: Annotated[
        Path | None, typer.Option("--from", help="a copy of the source distribution, instead of pip's download")
    ] = None,
) -> None:
    """Download a set of texts at your request, with pip, check its digests and write its tables."""
    from rib.data.snippets import fetch_snippets, write_snippets

    if what != "snippets":
        raise UserError("there is nothing to fetch under this name", got=what, valid="snippets")
    folder = (data or Path.cwd()) / what
    counts = write_snippets(file, folder) if file else fetch_snippets(folder)
    for domain, count in counts.items():
        print(f"{folder / domain}.jsonl: {count:,} sentences")


def data_pack(
    suite: SuiteName,
    store: StorePath = STORE,
    data: DataPath = None,
    models: ModelNames = None,
    seeds: SeedsOption = None,
    pack_budget: PackBudget = None,
) -> None:
    """Decode all images of a suite once, into the store."""
    from rib.execute.decode import pack

    budget = bytes_in(pack_budget)
    plan, place = plan_of(suite, store, data, models, seeds)
    made = with_progress(lambda watcher: pack(plan, place, watcher, budget))
    print(f"{made} packs built in {place.packs}")


def data_corrupt(
    what: Annotated[str, typer.Argument(help="a data set such as imagenet:val, or a folder with one folder per class")],
    out: Annotated[Path, typer.Option("--out", help="folder to write to; an interrupted command continues there")],
    corruptions: Annotated[
        str | None, typer.Option(help="separated by commas; default: ImageNet-C's fifteen; all: four more")
    ] = None,
    severities: Annotated[str, typer.Option(help="separated by commas")] = "1,2,3,4,5",
    seed: Annotated[int, typer.Option(help="seed of all random numbers")] = 0,
    size: Annotated[int, typer.Option(help="pixels per side, as published; 0: keep the size of each image")] = 224,
    frost: Annotated[Path | None, typer.Option(help="folder of pictures of frost; default: computed pictures")] = None,
    data: DataPath = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default: one per core")] = None,
) -> None:
    """Write a data set corrupted like ImageNet-C: OUT/CORRUPTION/SEVERITY/CLASS/IMAGE. Marks it as generated."""
    from rib.data.corruptions.catalogue import ROWS
    from rib.data.corruptions.writing import find_source, write_corrupted
    from rib.data.published import CORRUPTIONS

    source = find_source(what, data or Path.cwd())
    names = list(ROWS) if corruptions == "all" else names_in(corruptions) if corruptions is not None else CORRUPTIONS
    with console(stderr=True).status("corrupting") as status:
        written = write_corrupted(
            source,
            out,
            corruptions=names,
            severities=_severities(severities),
            seed=seed,
            size=size,
            frost=frost,
            workers=workers or os.cpu_count() or 1,
            advance=DecodeStatus(status, what, f"of {len(source.names):,} images corrupted"),
        )
    print(f"{written:,} files written in {out}; see GENERATED.json there")


def _severities(text: str) -> list[int]:
    """Parse comma-separated severities."""
    names = names_in(text)
    if wrong := [name for name in names if not name.isdecimal()]:
        raise UserError("unknown severity", got=wrong[0], valid="1, 2, 3, 4, 5")
    return [int(name) for name in names]


class DecodeStatus:
    """Shows how many images of a data set have been decoded, or otherwise processed."""

    def __init__(self, status: Status, name: str, done: str = "images decoded") -> None:
        self._status, self._name, self._done, self._count = status, name, done, 0

    def __call__(self, images: int) -> None:
        self._count += images
        self._status.update(Text(f"{self._name}: {self._count:,} {self._done}"))


def _data_rows(what: str, data: Path | None) -> tuple[dict[str, DataRow], Path, Roles, list[View]]:
    """Return the data sets of a suite, or the named one; the folder of their relative paths; their roles."""
    from rib.data.catalogue import ROWS, find_row
    from rib.data.overlap import Roles
    from rib.models.catalogue import find_row as find_model
    from rib.models.text import text_views
    from rib.suite.load import load_suite, shipped

    if what in ROWS:
        return {what: ROWS[what]}, data or Path.cwd(), Roles("", (), (what,), ()), []
    if not what.endswith(".toml") and what not in shipped():
        raise nearest(what, [*shipped(), *ROWS], "suite or data set")
    suite = load_suite(what, data)
    own = (name for name in suite.roles.pretrained if name in suite.data)
    names = dict.fromkeys((suite.reference, *suite.downstream, *suite.evaluate, *own))
    views = text_views((find_model(name, suite.model) for name in suite.models), suite.base)
    return {name: find_row(name, suite.data) for name in names}, suite.base, suite.roles, views
