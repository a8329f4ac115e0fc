"""`rib study`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rib.cli.inputs import page_in, require_device, suite_of
from rib.cli.options import STORE, DataPath, DeviceName, Json, ModelNames, SeedsOption, StorePath, Workers
from rib.cli.output import note_unstated, print_columns, print_outcome, print_page_path, with_progress, write_file
from rib.files import json_text

if TYPE_CHECKING:
    from rib.api import Studied
    from rib.execute.progress import Watcher
    from rib.steps import How
    from rib.suite.suite import Suite


def study(
    names: Annotated[list[str] | None, typer.Argument(help="studies, or 'all'; without a name: list them")] = None,
    suite: Annotated[str, typer.Option(help="the suite to study: a name, or a path")] = "digits-studies",
    store: StorePath = STORE,
    data: DataPath = None,
    workers: Workers = None,
    device: DeviceName = "auto",
    html: Annotated[
        Path | None,
        typer.Option(help="path of the page (FILE-STUDY for several studies); default: STORE/reports/SUITE-STUDY.html"),
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="write the figures as PDF and PNG into this folder")] = None,
    models: ModelNames = None,
    seeds: SeedsOption = None,
    as_json: Json = False,
) -> None:
    """Answer one question about a suite: run its steps, show the verdict and numbers, write page and figures."""
    from rib import studies
    from rib.steps import How
    from rib.store.store import Store

    if not names:
        print_columns([(name, studies.STUDIES.find(name).question) for name in studies.names()])
        return
    require_device(device)
    base = suite_of(suite, data, models, seeds)
    asked = studies.names(of_all=True) if names == ["all"] else list(dict.fromkeys(names))
    for name in asked:  # report a mistake in the last name before the first hour
        studies.find_study(name, base).suite(base)
    how, found = How(workers=workers, device=device), []
    for name in asked:
        one = with_progress(partial(_ask, name, base, store, how))
        print_outcome(one.outcome, suite)
        note_unstated(one.results.plan)
        found.append(one)
        page = html or page_in(Store(store), one.results.plan, suite, one.answer.suite)
        if html and len(asked) > 1:
            page = html.with_stem(f"{html.stem}-{name}")
        try:
            write_file(lambda _, target: found[-1].page(target), one.results, page)
        finally:
            if not as_json:
                one.table()
        print_page_path(page, as_json)
        if figures:
            write_file(lambda _, target: found[-1].figures(target), one.results, figures)
    if as_json:
        print(json_text([one.to_json() for one in found]))
    if not all(one.complete for one in found):
        raise typer.Exit(1)


def _ask(name: str, base: Suite, store: Path, how: How, watcher: Watcher) -> Studied:
    from rib import api

    return api.study(name, suite=base, store=store, how=how, watcher=watcher)
