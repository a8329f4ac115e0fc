"""`rib study`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rib.cli import completion
from rib.cli.inputs import is_suite, page_in, suite_of
from rib.cli.listing import list_studies
from rib.cli.options import STORE, DataPath, DeviceName, Json, ModelNames, SeedsOption, StorePath, Workers, page_place
from rib.cli.output import note_unstated, print_outcome, print_page_path, with_progress, write_file
from rib.files import json_text

if TYPE_CHECKING:
    from rib.api import Studied
    from rib.execute.progress import Watcher
    from rib.steps import How
    from rib.suite.suite import Suite

PAGE = "path of the page (FILE-STUDY for several studies); default: STORE/reports/SUITE-STUDY.html"
WORDS = "a suite, then studies or 'all'; without a study: list them"


SuiteOption = Annotated[
    str | None,
    typer.Option(help="the suite, if not the first word; default: digits-studies", autocompletion=completion.suites),
]


def study(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[SUITE] [STUDY]...", help=WORDS, autocompletion=completion.studied)
    ] = None,
    suite: SuiteOption = None,
    store: StorePath = STORE,
    data: DataPath = None,
    workers: Workers = None,
    device: DeviceName = "auto",
    html: Annotated[Path | None, typer.Option(parser=page_place, metavar="PATH", help=PAGE)] = None,
    figures: Annotated[Path | None, typer.Option(help="write the figures as PDF and PNG into this folder")] = None,
    models: ModelNames = None,
    seeds: SeedsOption = None,
    as_json: Json = False,
) -> None:
    """Answer one question about a suite: run its steps, show the verdict and numbers, write page and figures."""
    from rib import studies
    from rib.steps import How
    from rib.store.store import Store

    suite, names = _suite_and_names(words or [], suite)
    if not names:
        list_studies()
        return
    how = How(workers=workers, device=device).available()
    base = suite_of(suite, data, models, seeds)
    asked = studies.names(of_all=True) if names == ["all"] else list(dict.fromkeys(names))
    for name in asked:  # report a mistake in the last name at once, not after the first study
        studies.find_study(name, base).suite(base)
    found = []
    for name in asked:
        found.append(one := with_progress(partial(_ask, name, base, store, how)))
        plan = one.results.plan
        print_outcome(one.outcome, suite)
        note_unstated(plan)
        page = html or page_in(Store(store), plan.suite, plan.keys, suite, one.answer.suite)
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


def _suite_and_names(words: list[str], suite: str | None) -> tuple[str, list[str]]:
    """The suite of the command line, and the studies."""
    given, names = (words[0], words[1:]) if words and is_suite(words[0]) else (None, words)
    return suite or given or "digits-studies", names


def _ask(name: str, base: Suite, store: Path, how: How, watcher: Watcher) -> Studied:
    from rib import api
    from rib.execute.progress import Announced

    return api.study(name, suite=base, store=store, how=how, watcher=Announced(watcher, name))
