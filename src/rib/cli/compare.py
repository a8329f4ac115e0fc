"""`rib compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rib.cli import completion
from rib.cli.inputs import names_in, view_in
from rib.cli.options import (
    DataPath,
    DeviceName,
    Json,
    TablesFolder,
    ViewCrop,
    ViewFilter,
    ViewMean,
    ViewResize,
    ViewSize,
    ViewStd,
    Workers,
    page_place,
    store_place,
)
from rib.cli.output import print_page_path, with_progress, write_folder
from rib.errors import UserError
from rib.files import json_text
from rib.text.terminal import say

if TYPE_CHECKING:
    from rib.api import ComparedModels


WORDS = (
    "the suite with the data sets; the untuned model: a known name, KIND:NAME, a checkpoint, a folder; the tuned "
    "model, in the same forms: a file has BASE's architecture"
)


Gates = Annotated[
    list[str] | None,
    typer.Option(help="a gate, for exit code 1: 'ri < -2', 'ri.high < 0', 'change[sketch] < -5', …"),
]
NoAnalyses = Annotated[
    bool, typer.Option("--no-analyses", help="accuracies alone: no CKA, no drift, no running statistics; faster")
]
OwnStore = Annotated[
    Path | None,
    typer.Option(
        envvar="RIB_STORE", parser=store_place, metavar="PATH", help="the store; default: in the user's cache"
    ),
]
PagePath = Annotated[
    Path | None,
    typer.Option(
        parser=page_place,
        metavar="PATH",
        help="path of the page; default: STORE/reports/compare-BASE-TUNED-DIGEST.html",
    ),
]


def compare(
    words: Annotated[
        list[str], typer.Argument(metavar="[SUITE] BASE TUNED", help=WORDS, autocompletion=completion.compared)
    ],
    suite: Annotated[
        str | None,
        typer.Option(help="the suite, if not the first word; default: digits", autocompletion=completion.suites),
    ] = None,
    model: Annotated[str | None, typer.Option(help="BASE's architecture, if BASE is a file")] = None,
    tuned_on: Annotated[
        str | None,
        typer.Option(help="the suite's data set that TUNED was tuned on", autocompletion=completion.downstream),
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="number of images that TUNED was tuned on")] = None,
    size: ViewSize = None,
    crop: ViewCrop = None,
    resize: ViewResize = None,
    interpolation: ViewFilter = None,
    mean: ViewMean = None,
    std: ViewStd = None,
    layers: Annotated[str | None, typer.Option(help="layers for CKA: patterns of names, separated by commas")] = None,
    no_analyses: NoAnalyses = False,
    fail_if: Gates = None,
    store: OwnStore = None,
    data: DataPath = None,
    workers: Workers = None,
    device: DeviceName = "auto",
    html: PagePath = None,
    parquet: TablesFolder = None,
    as_json: Json = False,
) -> None:
    """Compare a tuned model with its base. Exit code 1 if a --fail-if condition holds or a step failed."""
    from rib import api
    from rib.steps import How

    suite, base, tuned = _words(words, suite)
    options: dict[str, Any] = {
        "suite": suite,
        "model": model,
        "tuned_on": tuned_on,
        "images": images,
        "layers": names_in(layers),
        "analyses": not no_analyses,
        "view": view_in(size, crop, resize, interpolation, mean, std),
        "fail_if": fail_if or (),
        "data": data,
        "how": How(workers=workers, device=device).available(),
    }
    found = with_progress(lambda watcher: api.compare(base, tuned, **options, store=store, watcher=watcher))
    _show(found, html or found.results.store.root / "reports" / found.page_name, as_json, parquet)


def _words(words: list[str], suite: str | None) -> tuple[str, str, str]:
    """The suite, the base and the tuned model of the command line. Raises UserError."""
    if len(words) == 3 and suite is None:
        return words[0], words[1], words[2]
    if len(words) != 2 or (suite is None and words[0].endswith(".toml")):
        raise UserError(
            "rib compare takes a suite and two models",
            got=" ".join(words),
            valid="SUITE BASE TUNED; or BASE TUNED with --suite SUITE",
        )
    return suite or "digits", words[0], words[1]


def _show(found: ComparedModels, page: Path, as_json: bool, parquet: Path | None) -> None:
    """Write the page and the tables, and print the numbers even if the page cannot be written; exit code 1 if a gate is
    broken."""
    from rib.report.comparison_json import comparison_json
    from rib.results.comparison_finding import gates_finding

    say(f"{found.done} steps done, {len(found.results.records) - found.done} done before")
    try:
        found.page(page)
    finally:
        if as_json:
            print(json_text(comparison_json(found)))
        else:
            found.table()
    print_page_path(page, as_json)
    if parquet:
        write_folder(found.results, parquet, "tables")
    if not found.passed:
        say(gates_finding(found))
        raise typer.Exit(1)
