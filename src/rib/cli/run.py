"""`rib run`, `rib plan` and `rib status`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from rib.cli.inputs import as_given, bytes_in, page_in, plan_of, suite_of
from rib.cli.options import (
    STORE,
    DataPath,
    DeviceName,
    Json,
    ModelNames,
    NoSamples,
    PackBudget,
    SeedsOption,
    StorePath,
    SuiteName,
    Workers,
    page_place,
)
from rib.cli.output import (
    note_unstated,
    print_outcome,
    print_page_path,
    print_report,
    report_text,
    results_of,
    steps_done,
    with_progress,
    write_file,
    write_report_page,
)
from rib.errors import UserError
from rib.files import json_text
from rib.text.terminal import console, printable, say

if TYPE_CHECKING:
    from rib.execute.run import RunOutcome
    from rib.plan import Plan
    from rib.report.cache import ReportCache
    from rib.store.store import Store
    from rib.suite.suite import Suite


ReportPath = Annotated[
    Path | None,
    typer.Option(parser=page_place, metavar="PATH", help="path of the page; default: STORE/reports/SUITE.html"),
]


ExecutorName = Annotated[str | None, typer.Option(help="local, ray, slurm; default: the runtime file's, or local")]

PLAIN = ("all", True, False, None, None, None, None)
"""Values of options with which a run of a finished suite has nothing to check."""


def run(
    suite: SuiteName = "digits",
    store: StorePath = STORE,
    data: DataPath = None,
    workers: Workers = None,
    device: DeviceName = "auto",
    keep: Annotated[str, typer.Option(help="weights to keep: all, pretrained, none")] = "all",
    html: ReportPath = None,
    models: ModelNames = None,
    seeds: SeedsOption = None,
    pack_budget: PackBudget = None,
    at_once: Annotated[int, typer.Option(min=1, help="models that share one pass over unpacked data")] = 16,
    executor: ExecutorName = None,
    runtime: Annotated[
        Path | None, typer.Option(help="TOML file that says where and how steps run; docs/clusters.md")
    ] = None,
    step_limit: Annotated[
        float | None, typer.Option(help="minutes after which a step is stopped and tried once more")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="also retry failures that would fail the same way")
    ] = False,
    profiled: Annotated[bool, typer.Option("--profile", help="show where the time went, here and on the page")] = False,
    no_samples: NoSamples = False,
    as_json: Json = False,
) -> None:
    """Run the missing steps of a suite, then show the report."""
    _require_keep(keep)
    own = (keep, device in ("auto", "cpu"), profiled, runtime, executor, step_limit, pack_budget)
    chosen = (suite, data, models, seeds, not no_samples)
    if own == PLAIN and _shown_again(suite, suite_of(*chosen), store, html, as_json):
        return
    from rib.execute.run import execute
    from rib.execute.runtime import read_runtime
    from rib.steps import How

    how = How(workers, device, keep=keep, pack_budget=bytes_in(pack_budget), at_once=at_once).available()
    where = read_runtime(runtime, executor=executor, step_minutes=step_limit, retry_failed=retry_failed or None)
    plan, place = plan_of(suite, store, data, models, seeds, samples=not no_samples)
    outcome = with_progress(lambda watcher: execute(plan, place, how, watcher, where))
    print_outcome(outcome, suite)
    if outcome.interrupted:
        raise typer.Exit(130)
    show = _profiled if profiled else _reported
    page = html or page_in(place, plan.suite, plan.keys, suite)
    complete = show(plan, place, page, as_json, outcome)
    print_page_path(page, as_json)
    if outcome.failed or not complete:  # a shared step may fail although every result is there
        raise typer.Exit(1)


def _require_keep(keep: str) -> None:
    if keep not in ("all", "pretrained", "none"):
        raise UserError("unknown --keep", got=keep, valid="all, pretrained, none")


def _shown_again(name: str, suite: Suite, folder: Path, html: Path | None, as_json: bool) -> bool:
    """Show the cached report of a finished suite without planning it again. Return False if there is none."""
    from rib.report.cache import KeysCache
    from rib.store.store import Store

    store = Store(folder)
    keys = KeysCache(suite, store).read()
    if keys is None:
        return False
    page = html or page_in(store, suite, keys, name)
    cache = _cache_of(suite, keys, store, page, as_json)
    text = cache.read() if cache.whole else None
    if text is None:
        return False
    say(steps_done(0, len(keys)))
    sys.stdout.write(text)
    print_page_path(page, as_json)
    return True


def _cache_of(suite: Suite, keys: Sequence[str], store: Store, page: Path, as_json: bool) -> ReportCache:
    """The cached report for this terminal."""
    from rib.report.cache import ReportCache

    screen = console()
    return ReportCache(suite, keys, store, page, as_json, screen.width, screen.color_system, screen.encoding)


def _reported(plan: Plan, store: Store, page: Path, as_json: bool, outcome: RunOutcome) -> bool:
    """Show the report and write its page, or show the cached report. Return whether all steps are done."""
    from rib.report.cache import KeysCache

    cache = _cache_of(plan.suite, plan.keys, store, page, as_json)
    text = None if outcome.done or outcome.failed else cache.read()
    known = None if plan.notes or plan.assumed else KeysCache(plan.suite, store)  # notes are printed by every run
    if text is not None:
        sys.stdout.write(text)
        if known and known.read() is None:
            known.write(plan.keys)
        return True
    results = results_of(plan, store)
    text = report_text(results, as_json, console())
    try:
        write_report_page(results, page)
    finally:
        sys.stdout.write(text)
    complete = not results.unfinished()
    if complete:
        cache.write(text)
        if known:
            known.write(plan.keys)
    return complete


def _profiled(plan: Plan, store: Store, page: Path, as_json: bool, outcome: RunOutcome) -> bool:
    """Show the report and the time table, and write both into the page. Return whether all steps are done."""
    from rib.report.page import write_page
    from rib.report.profile import profile_json, profile_lines
    from rib.report.results_json import results_json
    from rib.results.profile import profile

    results, screen = results_of(plan, store), console(highlight=False)
    found = profile(results, outcome.made, outcome.workers, outcome.decoding, outcome.working)
    try:
        write_file(lambda results, path: write_page(results, path, found), results, page)
    finally:
        if as_json:
            print(json_text(results_json(results) | {"profile": profile_json(found)}))
        else:
            print_report(results, as_json)
            for line in profile_lines(found, screen.width):
                screen.print(line)
    return not results.unfinished()


def show_plan(
    suite: SuiteName = "digits",
    store: StorePath = STORE,
    data: DataPath = None,
    models: ModelNames = None,
    seeds: SeedsOption = None,
    every: Annotated[bool, typer.Option("--all", help="list every step")] = False,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="measure each model for a few seconds")] = False,
    device: Annotated[str, typer.Option(help="the device to measure: auto, cpu, cuda, mps")] = "auto",
    as_json: Json = False,
) -> None:
    """List the steps of a suite, which are done, and the cost of the others; published sets may be absent."""
    from rich.padding import Padding

    from rib.execute.speed import crew, find_device, measure
    from rib.plan.cost import CostEstimate
    from rib.report.cost import cost_lines
    from rib.report.plan_status import plan_json, plan_table
    from rib.report.settings import settings_lines
    from rib.report.unshared import unshared_lines
    from rib.report.views import view_lines
    from rib.steps import How

    How(device=device).available()
    plan, place = plan_of(suite, store, data, models, seeds, assume=True)
    estimate, measured = CostEstimate(plan, place), find_device(device)
    workers, devices = crew(measured)
    with console(stderr=True).status("measuring" if calibrate else "counting"):
        cost = (
            estimate.with_hours(lambda architecture, recipe: measure(architecture, recipe, measured), workers)
            if calibrate
            else estimate.cost
        )
    note_unstated(plan)
    if as_json:
        print(json_text(plan_json(plan, place, cost)))
        return
    console().print(plan_table(plan, place, every))
    if not every:
        print("\n" + cost_lines(cost, as_given(suite), devices, plan.noun))
        screen = console(highlight=False)
        parts = {"Settings": settings_lines, "Models see": view_lines, "Features": unshared_lines}
        for head, lines in parts.items():
            for number, line in enumerate(lines(plan)):
                if number == 0:
                    screen.print(f"\n{head}")
                screen.print(Padding(Text(line), (0, 0, 0, 2)))


def status(
    suite: SuiteName = "digits",
    store: StorePath = STORE,
    data: DataPath = None,
    models: ModelNames = None,
    seeds: SeedsOption = None,
    as_json: Json = False,
) -> None:
    """Show the progress of a suite: steps done, to do and failed, and who runs which. Exit code 1 if a step failed."""
    from rib.report.plan_status import status_json, status_lines
    from rib.store.leases import Leases

    plan, place = plan_of(suite, store, data, models, seeds)
    facts = status_json(plan, place, list(Leases(place.root).listed()))
    print(json_text(facts) if as_json else printable(status_lines(facts)))
    if facts["failed"]:
        raise typer.Exit(1)
