"""`rib store`: commands for a store as a whole."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rib.cli.inputs import plan_of, suite_of
from rib.cli.options import STORE, DataPath, NoSamples, StorePath, WholeHelp, store_place
from rib.cli.output import with_progress
from rib.errors import UserError
from rib.text.terminal import console, printable, say

if TYPE_CHECKING:
    from rib.store.store import Store
    from rib.upkeep.merge import Merged

store_app = typer.Typer(cls=WholeHelp, help="Verify a store, clean it up, move it, merge it.", no_args_is_help=True)

PAGE_OF_OTHERS = " (the sender's own page, scripts and all: open it only if you trust them; `rib report` makes yours)"


@store_app.command("verify")
def store_verify(
    named: Annotated[
        Path | None, typer.Argument(parser=store_place, metavar="[STORE]", help="the store, instead of --store")
    ] = None,
    store: StorePath = STORE,
    mend: Annotated[
        bool, typer.Option("--repair", help="move damaged files aside, so that the next run makes them again")
    ] = False,
) -> None:
    """Check every file of a store against its digest. Exit code 1 if one does not match."""
    from rib.upkeep.verify import repair, verify

    place = _existing(named or store, damaged=True)
    with console(stderr=True).status("reading the store"):
        found = verify(place)
    _table([(str(fault.path.relative_to(place.root)), fault.what, fault.title) for fault in found.faults])
    old = f"; {len(found.unsealed)} from older versions have no digest" if found.unsealed else ""
    print(f"{found.files} files ({_bytes(found.size)}) checked, {len(found.faults)} damaged{old}")
    if not found.faults:
        return
    if mend:
        print(f"{len(repair(place, found.faults))} moved to {place.root / 'damaged'}; `rib run` makes them again")
    else:
        say("`rib store verify --repair` moves them aside, and `rib run` makes them again")
    raise typer.Exit(1)


@store_app.command("gc")
def store_gc(
    store: StorePath = STORE,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="a suite to keep (repeatable); weights and packs that no such suite needs can go"),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete/--dry-run", help="remove the files, or only list them")] = False,
    data: DataPath = None,
) -> None:
    """List the files of a store that can go, with sizes; --delete removes them. Records and predictions always stay."""
    from rib.upkeep.garbage import garbage, remove

    place = _existing(store)
    plans = [plan_of(name, store, data)[0] for name in keep or ()]
    found = garbage(place, plans)
    _table([(str(item.path.relative_to(place.root)), _bytes(item.size), item.why) for item in found])
    size = _bytes(sum(item.size for item in found))
    if delete:
        remove(found)
        print(f"{len(found)} files removed, {size}")
    else:
        print(f"{len(found)} files can go, {size}" + ("; remove them with --delete" if found else ""))


@store_app.command("export")
def store_export(
    suite: Annotated[str, typer.Argument(help="a shipped suite's name, or a path to a suite file")],
    archive: Annotated[Path, typer.Argument(help="file to write: .tar.zst or .tar.gz")],
    store: StorePath = STORE,
    data: DataPath = None,
    weights: Annotated[bool, typer.Option("--weights", help="also the weights, so that others can continue")] = False,
    no_samples: NoSamples = False,
) -> None:
    """Write the finished steps of a suite into one archive: records, predictions, suite file, page."""
    from rib.report.page import write_page
    from rib.results.results import Results
    from rib.suite.load import suite_file
    from rib.upkeep.archive import pack

    _existing(store)
    plan, place = plan_of(suite, store, data, samples=not no_samples)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        beside = {"suite.toml": suite_file(suite)}
        if any(map(place.has, (step.key for step in plan.steps))):
            write_page(Results(plan, place), page)
            beside["page.html"] = page
        steps = pack(place, plan, beside, archive, weights)
    print(f"{steps} of {len(plan.steps)} steps, {_bytes(archive.stat().st_size)}: {archive}")


@store_app.command("import")
def store_import(
    archive: Annotated[Path, typer.Argument(help="an archive from `rib store export`")],
    store: StorePath = STORE,
    spot: Annotated[
        int, typer.Option(min=0, metavar="N", help="repeat N random steps here before accepting the archive")
    ] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="seed that draws these steps; default: a new one")] = None,
    suite: Annotated[
        str | None, typer.Option(help="your own copy of the suite, for --spot; default: the archive's")
    ] = None,
    data: DataPath = None,
    device: Annotated[str, typer.Option(help="for --spot: auto, cpu, cuda, mps")] = "auto",
    points: Annotated[
        float, typer.Option(min=0, help="points by which an accuracy from another kind of machine may differ")
    ] = 1.0,
) -> None:
    """Import an archive into a store. Exit code 1 if a step exists with other results; the existing one stays."""
    from rib.store.store import Store
    from rib.upkeep.archive import unpack

    place, lines = Store(store), list[str]()
    chosen = secrets.randbelow(2**32) if seed is None else seed

    def check(theirs: Store) -> None:
        lines.extend(_spotted(theirs, place, (spot, chosen, device, points), suite, data))

    found = unpack(archive, place, check if spot else None)
    for path in found.beside:
        print(f"{path}{PAGE_OF_OTHERS if path.suffix == '.html' else ''}")
    print("".join(f"{printable(line)}\n" for line in lines), end="")
    _tell(found.merged, f"suite {found.suite}")


def _spotted(
    theirs: Store, own: Store, how: tuple[int, int, str, float], suite: str | None, data: Path | None
) -> list[str]:
    """Repeat steps of an archive and return lines to print. Raises UserError as `rib.upkeep.spot.spot`."""
    from rib.steps import How
    from rib.suite.load import load_suite
    from rib.upkeep.archive import SUITE
    from rib.upkeep.spot import Wanted, spot

    wanted = Wanted(*how)
    How(device=wanted.device).available()
    kept = theirs.root / SUITE
    if suite is None and not kept.is_file():
        raise UserError("the archive has no suite file, so its steps cannot be repeated", remedy="give --suite")
    own_place = data or Path(os.environ.get("RIB_DATA") or Path.cwd())
    asked = load_suite(kept, own_place) if suite is None else suite_of(suite, data, None, None)
    found = with_progress(lambda watcher: spot(theirs, asked, own, wanted, watcher))
    needed = len(found.checked) - found.chosen
    lines = [
        f"{found.chosen} steps drawn with --seed {wanted.seed} were repeated here, and {needed} more that they need: "
        f"{found.exact} equal bit for bit, {len(found.checked) - found.exact} to {wanted.points:g} points"
    ]
    lines += [f"not checked: {count} steps: {reason}" for reason, count in found.unchecked.items()]
    return lines


@store_app.command("merge")
def store_merge(
    others: Annotated[
        list[Path],
        typer.Argument(parser=store_place, metavar="OTHERS...", help="stores to copy from; they do not change"),
    ],
    into: Annotated[
        Path,
        typer.Option(
            "--into", "--store", envvar="RIB_STORE", parser=store_place, metavar="PATH", help="the store to copy into"
        ),
    ] = STORE,
) -> None:
    """Copy the steps of other stores. Exit code 1 if a step exists with other results; your own stays."""
    from rib.store.store import Store
    from rib.upkeep.merge import merge

    place, dirty = Store(into), False
    for other in others:
        found = merge(Store(other), place)
        _say(found, str(other))
        dirty |= not found.clean
    if dirty:
        raise typer.Exit(1)


def _tell(found: Merged, what: str) -> None:
    _say(found, what)
    if not found.clean:
        raise typer.Exit(1)


def _say(found: Merged, what: str) -> None:
    _table([(one.key[:12], one.title, "differs: " + ", ".join(one.values)) for one in found.conflicts])
    _table([(str(path), "not copied: " + fault) for path, fault in found.damaged])
    words = f"{what}: {found.taken} steps copied, {found.same} existed before"
    if found.conflicts:
        words += f", {len(found.conflicts)} differ; your own stay"
    if found.damaged:
        words += f", {len(found.damaged)} damaged and not copied"
    print(printable(words))


def _existing(store: Path, damaged: bool = False) -> Store:
    from rib.store.store import Store

    place = Store(store, damaged)
    if not (store / "store.json").exists() and not (store / "records").is_dir():
        raise UserError("not a store", got=store, remedy="give --store, or set RIB_STORE")
    return place


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    from rich.table import Table

    if not rows:
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*map(printable, row))
    console(highlight=False).print(table)


def _bytes(count: int) -> str:
    """Format bytes: 812 B, 3.4 MB."""
    value, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 1000 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
