"""The command `rib`."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.text import Text
from typer.core import TyperGroup

from rib import __version__
from rib.cli_store import STORE, DataPath, StorePath, store_app
from rib.errors import RibError, StoppedError, UserError, nearest
from rib.files import json_text
from rib.terminal import console, finish_streams, prepare_streams, printable, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from rib.api import Studied
    from rib.data.catalogue import DataRow
    from rib.data.overlap import Roles
    from rib.execute.local import Outcome
    from rib.execute.progress import Watcher
    from rib.plan import Plan
    from rib.recipe import Frozen
    from rib.report.results import Results
    from rib.store import Store
    from rib.suite import Suite
    from rib.work import How


class _Whole(TyperGroup):
    """Commands whose one line of help is shown whole."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The commands, each with the first sentence of what it does."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, each.get_short_help_str(limit=1000)) for name, each in found if each and not each.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


app = typer.Typer(
    name="rib",
    cls=_Whole,
    help="How much robustness survives fine-tuning. Begin with: rib run",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
listing = typer.Typer(cls=_Whole, help="What can be named in a suite.", no_args_is_help=True)
app.add_typer(listing, name="list")
data_app = typer.Typer(cls=_Whole, help="Look at data, or decode them, before a run.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(store_app, name="store")

SuiteName = Annotated[str, typer.Argument(help="a shipped suite's name, or a path to a suite file")]
ModelNames = Annotated[
    str | None,
    typer.Option("--models", help="these models only, separated by commas: the suite's, or any of the catalogue"),
]
Seeds = Annotated[
    str | None,
    typer.Option("--seeds", help="tuning seeds: how many, e.g. 3, or which, e.g. 0,1,4; default the suite's"),
]
PackBudget = Annotated[
    str | None,
    typer.Option("--pack-budget", help="disk space for decoded data, e.g. 200GB; default what is free, less a reserve"),
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document")]

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""

CLOSED_PIPE = 141
"""Exit code where nobody reads what is printed: 128 + SIGPIPE, as shells have it."""

MOST_NOTES = 5
"""Notes on what data sets share that a command prints; `rib data check` has them all."""

T = TypeVar("T")


def main() -> NoReturn:
    """Run the command and exit: 0 done, 1 steps failed, 2 the user's mistake, 130 interrupted, 141 a closed pipe."""
    atexit.register(gc.freeze)  # a last search for garbage among torch's objects takes a third of a second
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no library fetches anything unless the user says HF_HUB_OFFLINE=0
    prepare_streams()
    try:
        code = _finished()
    except BrokenPipeError:
        code = CLOSED_PIPE
    if code == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left to do takes a moment
    sys.exit(code if finish_streams() or code else CLOSED_PIPE)


def _finished() -> int:
    """Run the command; its exit code. What went wrong is said on standard error."""
    try:
        code: int = app(standalone_mode=False) or 0  # what typer.Exit was raised with
        sys.stdout.flush()
    except SystemExit as error:  # click's own, for a pipe that nobody reads
        raise error.__context__ if isinstance(error.__context__, BrokenPipeError) else error from None
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        return _said("interrupted; everything finished is kept", 130)
    except UserError as error:
        return _said(f"error: {error}", 2)
    except StoppedError as error:
        return _said(str(error), 130)
    except RibError as error:
        return _said(f"error: {error}", 1)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _system_or_raise(error)
    except Exception as error:
        return _usage_or_raise(error)
    return code


def _said(words: str, code: int) -> int:
    say(words)
    return code


def _system_or_raise(error: OSError) -> int:
    """What the system says of a file, where nothing nearer to it had words for that: no fault in the code either."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
        return _said(f"error: what is printed could not be written: {error.strerror}", 1)
    if error.filename is None or error.strerror is None:
        raise error
    return _said(f"error: {error.filename}: {error.strerror}", 2)


def _usage_or_raise(error: Exception) -> int:
    """Typer's own complaints about arguments (it brings its own click) are the user's mistake too."""
    show = getattr(error, "show", None)
    if show is None:
        raise error
    show()
    return 2


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def run(
    suite: SuiteName = "digits",
    store: StorePath = STORE,
    data: DataPath = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default one a core, or one a GPU")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")] = "auto",
    keep: Annotated[str, typer.Option(help="weights to keep: all, pretrained, none")] = "all",
    html: Annotated[Path | None, typer.Option(help="where the page goes; default STORE/reports/SUITE.html")] = None,
    models: ModelNames = None,
    seeds: Seeds = None,
    pack_budget: PackBudget = None,
    at_once: Annotated[int, typer.Option(min=1, help="models that predict unpacked data in one pass over it")] = 16,
    executor: Annotated[
        str | None, typer.Option(help="local, ray, slurm; default the runtime file's, or local")
    ] = None,
    runtime: Annotated[
        Path | None, typer.Option(help="TOML file: where and how steps are done; docs/clusters.md")
    ] = None,
    step_limit: Annotated[
        float | None, typer.Option(help="minutes after which a step is ended, and tried once more")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="try again what failed and would fail the same way")
    ] = False,
    profiled: Annotated[bool, typer.Option("--profile", help="say where the time went, here and in the page")] = False,
    as_json: Json = False,
) -> None:
    """Do what the suite asks for and has not been done; then show the report."""
    from rib.execute.local import execute
    from rib.execute.runtime import read_runtime
    from rib.work import How

    if keep not in ("all", "pretrained", "none"):
        raise UserError("unknown --keep", got=keep, valid="all, pretrained, none")
    _check_device(device)
    how = How(workers=workers, device=device, keep=keep, pack_budget=_budget(pack_budget), at_once=at_once)
    where = read_runtime(
        runtime, executor=executor, step_minutes=step_limit, retry_failed=True if retry_failed else None
    )
    plan, place = _plan(suite, store, data, models, seeds)
    outcome = _watched(lambda watcher: execute(plan, place, how, watcher, where))
    _tell(outcome, suite)
    if outcome.interrupted:
        raise typer.Exit(130)
    page = html or place.root / "reports" / f"{plan.suite.name}.html"
    if profiled:
        complete = _profiled(plan, place, page, as_json, outcome)
    else:
        complete = _reported(plan, place, page, as_json, anew=bool(outcome.done or outcome.failed))
    _page_at(page, as_json)
    if not complete:
        raise typer.Exit(1)


@app.command("plan")
def show_plan(
    suite: SuiteName = "digits",
    store: StorePath = STORE,
    data: DataPath = None,
    models: ModelNames = None,
    seeds: Seeds = None,
    every: Annotated[bool, typer.Option("--all", help="list every step")] = False,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="measure each model for a few seconds")] = False,
    device: Annotated[str, typer.Option(help="what to measure: auto, cpu, cuda, mps")] = "auto",
    as_json: Json = False,
) -> None:
    """Say which steps a suite has, which are done, and what the others cost; published sets need not be here."""
    from rich.padding import Padding

    from rib.execute.calibrate import crew, find_device, measure
    from rib.report.cost import Estimate, cost_lines
    from rib.report.overview import plan_json, plan_table
    from rib.report.settings import settings_lines
    from rib.report.views import unstated, view_lines

    _check_device(device)
    plan, place = _plan(suite, store, data, models, seeds, assume=True)
    estimate, measured = Estimate(plan, place), find_device(device)
    workers, devices = crew(measured)
    with console(stderr=True).status("measuring" if calibrate else "counting"):
        cost = (
            estimate.with_hours(lambda architecture, recipe: measure(architecture, recipe, measured), workers)
            if calibrate
            else estimate.cost
        )
    for words in unstated(plan):
        print(printable(f"note: {words}"), file=sys.stderr)
    if as_json:
        print(json_text(plan_json(plan, place, cost)))
        return
    console().print(plan_table(plan, place, every))
    if not every:
        print("\n" + cost_lines(cost, _as_given(suite), devices))
        screen = console(highlight=False)
        for head, lines in (("Settings", settings_lines(plan)), ("Models see", view_lines(plan))):
            screen.print(f"\n{head}")
            for line in lines:
                screen.print(Padding(Text(line), (0, 0, 0, 2)))


@app.command()
def status(
    suite: SuiteName = "digits",
    store: StorePath = STORE,
    data: DataPath = None,
    models: ModelNames = None,
    seeds: Seeds = None,
    as_json: Json = False,
) -> None:
    """Say how far a suite is: steps done, to do, failed, and who is at work. Exit code 1 if any failed."""
    from rib.execute.leases import Leases
    from rib.report.overview import status_json, status_lines

    plan, place = _plan(suite, store, data, models, seeds)
    facts = status_json(plan, place, list(Leases(place.root).listed()))
    print(json_text(facts) if as_json else printable(status_lines(facts)))
    if facts["failed"]:
        raise typer.Exit(1)


@app.command()
def report(
    suite: SuiteName = "digits",
    store: StorePath = STORE,
    data: DataPath = None,
    html: Annotated[Path | None, typer.Option(help="write the page there")] = None,
    parquet: Annotated[
        Path | None, typer.Option(help="write per-example predictions and scores into this folder")
    ] = None,
    latex: Annotated[Path | None, typer.Option(help="write the table there")] = None,
    figures: Annotated[Path | None, typer.Option(help="write PDF and PNG figures into this folder")] = None,
    models: ModelNames = None,
    seeds: Seeds = None,
    as_json: Json = False,
) -> None:
    """Show what the records say; run nothing. The data sets are looked at, for their labels and sources."""
    plan, place = _plan(suite, store, data, models, seeds)
    results = _results(plan, place)
    _require_records(results, place, suite)
    _show(results, as_json)
    if html:
        _write_page(results, html)
    for target, function in ((parquet, "write_parquet"), (latex, "write_latex")):
        if target:
            from rib.report import export

            _written(getattr(export, function), results, target)
    if figures:
        from rib.report.figures import write_figures

        _written(write_figures, results, figures)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="where the weights go")],
    suite: SuiteName = "digits",
    store: StorePath = STORE,
    data: DataPath = None,
    model: Annotated[str | None, typer.Option(help="only this model")] = None,
    method: Annotated[str | None, typer.Option(help="only this method")] = None,
    tuned_on: Annotated[str | None, typer.Option(help="only tuned on this data set")] = None,
    models: ModelNames = None,
    seeds: Seeds = None,
) -> None:
    """Write finished models, merged ones too, each with a model card; timm models as folders that timm loads."""
    from rib.report.release import release, require_free
    from rib.work import How, Workshop

    plan, place = _plan(suite, store, data, models, seeds)
    workshop = Workshop(plan.suite, place, How(device="cpu"), lambda _images, _passes: None)
    chosen = plan.chosen(model, method, tuned_on)
    wanted = [item for item in chosen if place.has(item.fit.key)]
    if not wanted:
        what = f"none of {len(chosen):,} models that match is finished" if chosen else "no model of the suite matches"
        raise UserError(what, got=place.root, remedy=f"see `rib status {suite} --store {place.root}`")
    if lost := next((key for item in wanted for key in workshop.lost(item.fit)), None):
        raise UserError(
            "the weights of a finished step were not kept",
            got=place.weights_path(lost),
            remedy="run the suite with --keep all and another --store, or narrow the export with --model, --method",
        )
    results = _results(plan, place)
    require_free(results, wanted, folder)
    for item in wanted:
        print(release(results, item, workshop.weights(item.fit), folder))


@app.command()
def verify(
    suite: SuiteName = "imagenet_rib",
    store: StorePath = STORE,
    data: DataPath = None,
    models: ModelNames = None,
    seeds: Seeds = None,
    numbers: Annotated[
        Path | None, typer.Option(help="TOML file of numbers to compare with; default the paper's")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare with published numbers. Exit code 1 where one differs by more than its tolerance."""
    from rib.report.verify import PUBLISHED, checks, checks_json, checks_table, read_numbers, summary

    wanted = read_numbers(numbers or PUBLISHED)
    plan, place = _plan(suite, store, data, models, seeds)
    found = checks(_results(plan, place), wanted)
    if as_json:
        print(json_text(checks_json(found)))
    else:
        screen = console(highlight=False)
        screen.print(checks_table(found))
        screen.print(summary(found))
    if any(check.verdict == "differs" for check in found):
        raise typer.Exit(1)


@app.command()
def recommend(
    suite: SuiteName = "digits",
    images: Annotated[int, typer.Option(min=1, help="how many images there are to tune on")] = 200,
    store: StorePath = STORE,
    data: DataPath = None,
    models: ModelNames = None,
    seeds: Seeds = None,
    as_json: Json = False,
) -> None:
    """Say which model and method the records speak for, at a size. Exit code 1 where the evidence is too thin."""
    from rib.report.advice import advice_json, advice_lines, advise

    plan, place = _plan(suite, store, data, models, seeds)
    results = _results(plan, place)
    _require_records(results, place, suite)
    advice = advise(results, images)
    if as_json:
        print(json_text(advice_json(advice)))
    else:
        screen = console(highlight=False)
        screen.print(advice_lines(advice, screen.width))
    if advice.declined:
        raise typer.Exit(1)


@app.command()
def compare(
    base: Annotated[str, typer.Argument(help="the model before: a known one, KIND:NAME, a checkpoint, a folder")],
    tuned: Annotated[str, typer.Argument(help="the model after: likewise; a file takes BASE's architecture")],
    suite: Annotated[str, typer.Option(help="whose data sets: a shipped suite's name, or a path")] = "digits",
    model: Annotated[str | None, typer.Option(help="BASE's architecture, where it is a file")] = None,
    tuned_on: Annotated[str | None, typer.Option(help="the suite's data set that TUNED was tuned on")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="how many images TUNED was tuned on")] = None,
    layers: Annotated[str | None, typer.Option(help="layers for CKA: patterns of names, separated by commas")] = None,
    fail_if: Annotated[
        list[str] | None, typer.Option(help="exit code 1 if so: 'ri < -2', 'ri.high < 0', 'change[sketch] < -5', …")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(envvar="RIB_STORE", help="folder of records; default in the user's cache")
    ] = None,
    data: DataPath = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default one a core, or one a GPU")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")] = "auto",
    html: Annotated[
        Path | None, typer.Option(help="where the page goes; default STORE/reports/compare-BASE-TUNED-DIGEST.html")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what tuning did to a model's robustness. Exit code 1 where a --fail-if holds or a step failed."""
    from rib import api
    from rib.report.comparison import comparison_json, gates_finding
    from rib.work import How

    _check_device(device)
    _import_path(suite)
    place = store or api.cache_store()
    found = _watched(
        lambda watcher: api.compare(
            base,
            tuned,
            suite=suite,
            model=model,
            tuned_on=tuned_on,
            images=images,
            layers=_names(layers),
            fail_if=fail_if or (),
            store=place,
            data=data,
            how=How(workers=workers, device=device),
            watcher=watcher,
        )
    )
    say(f"{found.done} steps done, {len(found.results.records) - found.done} were done before")
    page = html or place / "reports" / found.pair.page_name
    try:
        found.page(page)
    finally:  # numbers are shown even where the page cannot be written
        if as_json:
            print(json_text(comparison_json(found)))
        else:
            found.table()
    _page_at(page, as_json)
    if not found.passed:
        say(gates_finding(found))
        raise typer.Exit(1)


@app.command()
def study(
    names: Annotated[list[str] | None, typer.Argument(help="studies, or 'all'; none: list them")] = None,
    suite: Annotated[
        str, typer.Option(help="what they are derived from: a suite's name, or a path")
    ] = "digits-studies",
    store: StorePath = STORE,
    data: DataPath = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default one a core, or one a GPU")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")] = "auto",
    html: Annotated[
        Path | None,
        typer.Option(help="where the page goes (of several: FILE-STUDY); default STORE/reports/SUITE-STUDY.html"),
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="write the figures as PDF and PNG into this folder")] = None,
    models: ModelNames = None,
    seeds: Seeds = None,
    as_json: Json = False,
) -> None:
    """Ask one question of a suite: run what it needs, give the verdict with its numbers, a page, figures."""
    from rib import studies
    from rib.work import How

    if not names:
        _columns([(name, studies.STUDIES.find(name).question) for name in studies.names()])
        return
    _check_device(device)
    base = _suite(suite, data, models, seeds)
    asked = studies.names() if names == ["all"] else list(dict.fromkeys(names))
    for name in asked:  # a mistake in the last name is told before the first hour
        studies.find_study(name, base).suite(base)
    how, found = How(workers=workers, device=device), []
    for name in asked:
        one = _watched(partial(_ask, name, base, store, how))
        _tell(one.outcome, suite)
        found.append(one)
        page = html or store / "reports" / f"{one.answer.suite}.html"
        if html and len(asked) > 1:
            page = html.with_stem(f"{html.stem}-{name}")
        try:
            _written(lambda _, target: found[-1].page(target), one.results, page)
        finally:
            if not as_json:
                one.table()
        _page_at(page, as_json)
        if figures:
            _written(lambda _, target: found[-1].figures(target), one.results, figures)
    if as_json:
        print(json_text([one.to_json() for one in found]))
    if not all(one.complete for one in found):
        raise typer.Exit(1)


def _ask(name: str, base: Suite, store: Path, how: How, watcher: Watcher) -> Studied:
    from rib import api

    return api.study(name, suite=base, store=store, how=how, watcher=watcher)


@listing.command("suites")
def list_suites() -> None:
    """Suites that come with RIB."""
    from rib.suite import load_suite, shipped

    _columns([(name, load_suite(name).description) for name in shipped()])


@listing.command("data")
def list_data() -> None:
    """Data sets of the catalogue."""
    from rib.data.catalogue import ROWS
    from rib.data.published import PUBLISHED

    _columns(
        [
            (name, PUBLISHED[row.imagenet].title if row.imagenet else f"embedded domain {row.digits}")
            for name, row in ROWS.items()
        ]
    )


@listing.command("models")
def list_models() -> None:
    """Pretrained models of the catalogue."""
    from rib.models.catalogue import KINDS, ROWS

    rows = []
    for name, row in ROWS.items():
        kind = next(kind for kind in KINDS if getattr(row, kind))
        words = [f"{kind} {getattr(row, kind)}", row.tag, row.weights, row.pretraining, row.objective]
        rows.append((name, ", ".join(word for word in words if word)))
    _columns(rows)


@listing.command("methods")
def list_methods() -> None:
    """Methods, with their hyper-parameters."""
    from rib.methods import METHODS

    _columns(_described(METHODS.classes))


@listing.command("objectives")
def list_objectives() -> None:
    """Objectives of pretraining, with their hyper-parameters."""
    from rib.objectives import OBJECTIVES

    _columns(_described(OBJECTIVES.classes))


@listing.command("analyses")
def list_analyses() -> None:
    """Looks inside models, with their parameters."""
    from rib.analysis import ANALYSES

    _columns(_described(ANALYSES.classes))


def _described(kinds: Mapping[str, type[Frozen]]) -> list[tuple[str, str]]:
    """Each kind with the first line about it and its fields."""
    rows = []
    for name, kind in sorted(kinds.items()):
        fields = ", ".join(f"{field} = {info.default}" for field, info in kind.model_fields.items())
        first = (kind.__doc__ or "").splitlines()[0]
        if first.count("(") > first.count(")"):  # a source that goes on in the next line
            first = first.rpartition(" (")[0]
        rows.append((name, first + (f"  [{fields}]" if fields else "")))
    return rows


@data_app.command("check")
def data_check(
    what: Annotated[str, typer.Argument(help="a suite, or a data set such as imagenet:v2")],
    data: DataPath = None,
    store: StorePath = STORE,
    deep: Annotated[bool, typer.Option("--deep", help="decode every image, and look for near copies")] = False,
    as_json: Json = False,
) -> None:
    """Say of each data set whether it is there, complete and readable, and what they share. Exit code 1 if not fine."""
    from rib.data.check import check, check_overlaps
    from rib.report.datacheck import check_json, check_table

    rows, base, roles = _data_rows(what, data)
    cache = store / "facts" if (store / "facts").is_dir() else None
    found = []
    with console(stderr=True).status("looking at the data") as status:
        for name, row in rows.items():
            status.update(Text(f"looking at {name}"))
            found.append(check(name, row, base, deep, _Tell(status, name)))
        status.update("looking for images in common")
        shared = check_overlaps(rows, found, roles, base, cache, deep)
    if as_json:
        print(json_text(check_json(found, shared)))
    else:
        console(highlight=False).print(check_table(found, shared))
    if not all(checked.fine for checked in found) or any(one.refused for one in shared):
        raise typer.Exit(1)


@data_app.command("pack")
def data_pack(
    suite: SuiteName,
    store: StorePath = STORE,
    data: DataPath = None,
    models: ModelNames = None,
    seeds: Seeds = None,
    pack_budget: PackBudget = None,
) -> None:
    """Decode everything that a suite looks at, once, into the store."""
    from rib.execute.packing import pack

    budget = _budget(pack_budget)
    plan, place = _plan(suite, store, data, models, seeds)
    made = _watched(lambda watcher: pack(plan, place, watcher, budget))
    print(f"{made} packs made, in {place.packs}")


@data_app.command("corrupt")
def data_corrupt(
    what: Annotated[str, typer.Argument(help="a data set such as imagenet:val, or a folder with one folder a class")],
    out: Annotated[Path, typer.Option("--out", help="folder to write to; an interrupted run goes on there")],
    corruptions: Annotated[
        str | None, typer.Option(help="separated by commas; default ImageNet-C's fifteen; all: four more")
    ] = None,
    severities: Annotated[str, typer.Option(help="separated by commas")] = "1,2,3,4,5",
    seed: Annotated[int, typer.Option(help="of all random numbers")] = 0,
    size: Annotated[int, typer.Option(help="pixels a side, as published; 0: each image as large as it is")] = 224,
    frost: Annotated[
        Path | None, typer.Option(help="folder of pictures of frost; default: pictures made by formula")
    ] = None,
    data: DataPath = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default one a core")] = None,
) -> None:
    """Write a data set corrupted as ImageNet-C is: OUT/CORRUPTION/SEVERITY/CLASS/IMAGE. It is marked as generated."""
    from rib.data.corruptions.catalogue import ROWS
    from rib.data.corruptions.writing import find_source, write_corrupted
    from rib.data.published import CORRUPTIONS

    source = find_source(what, data or Path.cwd())
    names = list(ROWS) if corruptions == "all" else _names(corruptions) if corruptions is not None else CORRUPTIONS
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
            advance=_Tell(status, what, f"of {len(source.names):,} images corrupted"),
        )
    print(f"{written:,} files written in {out}; see GENERATED.json there")


def _severities(text: str) -> list[int]:
    """Numbers that a text names, separated by commas."""
    names = _names(text)
    if wrong := [name for name in names if not name.isdecimal()]:
        raise UserError("there is no such severity", got=wrong[0], valid="1, 2, 3, 4, 5")
    return [int(name) for name in names]


class _Tell:
    """Shows how many images of a data set have been decoded, or whatever is done to them."""

    def __init__(self, status: Status, name: str, done: str = "images decoded") -> None:
        self._status, self._name, self._done, self._count = status, name, done, 0

    def __call__(self, images: int) -> None:
        self._count += images
        self._status.update(Text(f"looking at {self._name}: {self._count:,} {self._done}"))


def _data_rows(what: str, data: Path | None) -> tuple[dict[str, DataRow], Path, Roles]:
    """The data sets of a suite, or the one of that name; the folder that their paths start from; who is what."""
    from rib.data.catalogue import ROWS, find_row
    from rib.data.overlap import Roles
    from rib.suite import load_suite, shipped

    if what in ROWS:
        return {what: ROWS[what]}, data or Path.cwd(), Roles("", (), (what,), ())
    if not what.endswith(".toml") and what not in shipped():
        raise nearest(what, [*shipped(), *ROWS], "suite or data set")
    suite = load_suite(what, data)
    own = (name for name in suite.roles.pretrained if name in suite.data)
    names = dict.fromkeys((suite.reference, *suite.downstream, *suite.evaluate, *own))
    return {name: find_row(name, suite.data) for name in names}, suite.base, suite.roles


def _require_records(results: Results, place: Store, suite: str) -> None:
    if not results.records:
        raise UserError(
            f"nothing of suite {results.suite.name!r} is in the store",
            got=place.root,
            remedy=f"run it: rib run {_as_given(suite)}",
        )


def _as_given(suite: str) -> str:
    """The suite, and the options of this call that choose what is meant by it, for another command."""
    words, kept = sys.argv[1:], []
    for place, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name in ("--store", "--data", "--models", "--seeds"):
            kept += [word] if equals else words[place : place + 2]
    return shlex.join([suite, *kept])


def _columns(rows: list[tuple[str, str]]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    console(highlight=False).print(table)


def _plan(
    suite: str,
    store: Path,
    data: Path | None,
    models: str | None = None,
    seeds: str | None = None,
    assume: bool = False,
) -> tuple[Plan, Store]:
    from rib.plan import make_plan
    from rib.store import Store

    place = Store(store)
    with console(stderr=True).status("reading the suite, its data and its weights"):
        plan = make_plan(_suite(suite, data, models, seeds), place.facts, assume)
    for note in plan.notes[:MOST_NOTES]:
        print(printable(f"note: {note}"), file=sys.stderr)
    if (more := len(plan.notes) - MOST_NOTES) > 0:
        print(f"note: {more:,} more of these: rib data check {suite}", file=sys.stderr)
    return plan, place


def _suite(name: str, data: Path | None, models: str | None, seeds: str | None) -> Suite:
    """A suite, with only these models and with these tuning seeds where any are named."""
    from rib.suite import load_suite, parse_seeds

    _import_path(name)
    suite = load_suite(name, data)
    suite = suite if models is None else suite.with_models(_names(models))
    return suite if seeds is None else suite.with_seeds(parse_seeds(seeds))


def _budget(text: str | None) -> int | None:
    """Bytes that a text names."""
    from rib.data.budget import parse_bytes

    return None if text is None else parse_bytes(text)


def _names(text: str | None) -> list[str]:
    """What a text names, separated by commas."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _import_path(suite: str) -> None:
    """Let a suite file name modules that lie beside it, or in the working folder."""
    real = os.path.realpath(suite)  # unlike Path.resolve, it takes a link that leads to itself
    for folder in (Path(real).parent if suite.endswith(".toml") else None, Path.cwd()):
        if folder and str(folder) not in sys.path:
            sys.path.append(str(folder))


def _page_at(page: Path, as_json: bool) -> None:
    """Where the page is, beside the table; on standard error where standard output is one JSON document."""
    (say if as_json else print)(f"page: {page}")


def _check_device(device: str) -> None:
    import torch

    try:
        kind = torch.device("cpu" if device == "auto" else device).type
    except RuntimeError:
        kind = "unknown"
    if kind not in ("cpu", "cuda", "mps"):
        raise UserError("unknown device", got=device, valid="auto, cpu, cuda, cuda:1, mps")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is available", got=device, valid="auto, cpu", remedy="leave --device out")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("no MPS device is available", got=device, valid="auto, cpu", remedy="leave --device out")


def _watched(job: Callable[[Any], T]) -> T:
    from rib.execute.progress import Bar, PlainLines

    screen = console(stderr=True)
    if not screen.is_terminal:
        return job(PlainLines())
    with Bar(screen) as bar:
        return job(bar)


def _tell(outcome: Outcome, suite: str) -> None:
    words = f"{outcome.done} steps done, {outcome.before} were done before"
    if outcome.elsewhere:
        words += f", {outcome.elsewhere} were done meanwhile by others"
    if outcome.failed:
        words += f", {len(outcome.failed)} failed"
    if outcome.interrupted:
        words = f"interrupted: {words}. Go on with: rib {shlex.join(sys.argv[1:]) or f'run {suite}'}"
    say(words)


def _results(plan: Plan, store: Store) -> Results:
    from rib.report.results import Results

    return Results(plan, store)


def _reported(plan: Plan, store: Store, page: Path, as_json: bool, anew: bool) -> bool:
    """Show the report and write its page, or show it again where nothing has changed; whether all steps are done."""
    from rib.report.kept import Kept

    screen = console()
    kept = Kept(plan, store, page, as_json, screen.width, screen.color_system, screen.encoding)
    text = None if anew else kept.read()
    if text is not None:
        sys.stdout.write(text)
        return True
    results = _results(plan, store)
    text = _shown(results, as_json, screen)
    try:
        _write_page(results, page)
    finally:
        sys.stdout.write(text)
    complete = not results.unfinished()
    if complete:
        kept.write(text)
    return complete


def _profiled(plan: Plan, store: Store, page: Path, as_json: bool, outcome: Outcome) -> bool:
    """Show the report and where the time went, and write both into the page; whether all steps are done."""
    from rib.report.page import write_page
    from rib.report.profile import profile, profile_json, profile_lines
    from rib.report.tables import as_json as report_json

    results, screen = _results(plan, store), console(highlight=False)
    found = profile(results, outcome.made, outcome.workers, outcome.decoding, outcome.working)
    try:
        _written(lambda results, path: write_page(results, path, found), results, page)
    finally:
        if as_json:
            print(json_text(report_json(results) | {"profile": profile_json(found)}))
        else:
            _show(results, as_json)
            for line in profile_lines(found, screen.width):
                screen.print(line)
    return not results.unfinished()


def _show(results: Results, as_json: bool) -> None:
    sys.stdout.write(_shown(results, as_json, console()))


def _shown(results: Results, as_json: bool, screen: Console) -> str:
    """The report as a terminal shows it, or as JSON."""
    from rib.report import tables

    if as_json:
        return json_text(tables.as_json(results)) + "\n"
    with screen.capture() as shown:
        screen.print(tables.headline(results, screen.width))
    return shown.get()


def _write_page(results: Results, path: Path) -> None:
    from rib.report.page import write_page

    _written(write_page, results, path)


def _written(write: Callable[[Results, Path], Any], results: Results, target: Path) -> None:
    try:
        write(results, target)
    except OSError as error:
        raise UserError(f"cannot write {target}", got=error.strerror, remedy="name another place") from None
