"""Prints and writes the output of commands."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rib.cli.inputs import as_given
from rib.errors import UserError
from rib.files import json_text
from rib.text.terminal import console, say

if TYPE_CHECKING:
    from rich.console import Console

    from rib.execute.run import RunOutcome
    from rib.plan import Plan
    from rib.results.results import Results
    from rib.store.store import Store

T = TypeVar("T")


def with_progress(job: Callable[[Any], T]) -> T:
    from rib.execute.progress import Bar, PlainLines

    screen = console(stderr=True)
    if not screen.is_terminal:
        return job(PlainLines())
    with Bar(screen) as bar:
        return job(bar)


def print_outcome(outcome: RunOutcome, suite: str) -> None:
    words = steps_done(outcome.done, outcome.before)
    if outcome.elsewhere:
        words += f", {outcome.elsewhere} done meanwhile by other drivers"
    if outcome.failed:
        words += f", {len(outcome.failed)} failed"
    if outcome.interrupted:
        words = f"interrupted: {words}. Continue with: rib {shlex.join(sys.argv[1:]) or f'run {suite}'}"
    say(words)


def steps_done(now: int, before: int) -> str:
    return f"{now} steps done, {before} done before"


def note_unstated(plan: Plan) -> None:
    """Print the models without a stated normalisation."""
    from rib.report.views import unstated

    for words in unstated(plan):
        say(f"note: {words}")


def results_of(plan: Plan, store: Store) -> Results:
    from rib.results.results import Results

    return Results(plan, store)


def require_records(results: Results, place: Store, suite: str) -> None:
    if not results.records:
        raise UserError(
            f"the store has no records of suite {results.suite.name!r}",
            got=place.root.absolute(),
            remedy=f"run it: rib run {as_given(suite)}; or name the store that has them: --store DIR",
        )


def print_report(results: Results, as_json: bool, every: bool = False) -> None:
    sys.stdout.write(report_text(results, as_json, console(), every))


def report_text(results: Results, as_json: bool, screen: Console, every: bool = False) -> str:
    """Return the report as text for the terminal, or as JSON."""
    from rib.report.headline import headline
    from rib.report.results_json import results_json

    if as_json:
        return json_text(results_json(results)) + "\n"
    with screen.capture() as shown:
        screen.print(headline(results, screen.width, every))
    return shown.get()


def write_report_page(results: Results, path: Path) -> None:
    from rib.report.page import write_page

    write_file(write_page, results, path)


def write_file(write: Callable[[Results, Path], Any], results: Results, target: Path) -> None:
    try:
        write(results, target)
    except OSError as error:
        raise UserError(f"cannot write {target}", got=error.strerror, remedy="choose another path") from None


def write_folder(results: Results, folder: Path, what: str) -> None:
    """Write tables or figures; show each file when it is written, and name all of them at the end."""
    from rib.report.figures import write_figures
    from rib.report.parquet import write_parquet

    found: list[Path] = []
    with console(stderr=True).status(f"writing {what} into {folder}") as shown:

        def wrote(path: Path) -> None:
            found.append(path)
            shown.update(f"writing {what} into {folder}: {len(found)} files, {path.name}")

        write = write_parquet if what == "tables" else write_figures
        write_file(lambda given, place: write(given, place, wrote=wrote), results, folder)
    say(f"{what}: {len(found)} files in {folder.absolute()}: {', '.join(_stems(found))}")


def _stems(paths: list[Path]) -> list[str]:
    """Names of files, one for those that differ in their suffix only: "mri.pdf .png"."""
    suffixes: dict[str, list[str]] = {}
    for path in paths:
        suffixes.setdefault(path.stem, []).append(path.suffix)
    return [f"{stem}{' '.join(ends)}" for stem, ends in suffixes.items()]


def print_page_path(page: Path, as_json: bool) -> None:
    """Print the path of the page: on standard error if standard output is one JSON document."""
    (say if as_json else print)(f"page: {page}")


def print_columns(rows: list[tuple[str, str]]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    console(highlight=False).print(table)
