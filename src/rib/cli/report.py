"""`rib report`, `rib export`, `rib verify` and `rib recommend`: the results of finished steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rib.cli import completion
from rib.cli.collector import resume_collector
from rib.cli.inputs import as_given, is_suite, plan_of
from rib.cli.options import (
    STORE,
    DataPath,
    Json,
    ModelNames,
    NoSamples,
    SeedsOption,
    StorePath,
    SuiteName,
    TablesFolder,
    page_place,
    table_place,
)
from rib.cli.output import (
    note_unstated,
    print_report,
    require_records,
    results_of,
    write_file,
    write_folder,
    write_report_page,
)
from rib.errors import UserError
from rib.files import json_text
from rib.text.terminal import console, say


def report(
    suite: SuiteName = "digits",
    store: StorePath = STORE,
    data: DataPath = None,
    html: Annotated[
        Path | None, typer.Option(parser=page_place, metavar="PATH", help="write the page to this file")
    ] = None,
    parquet: TablesFolder = None,
    latex: Annotated[
        Path | None, typer.Option(parser=table_place, metavar="PATH", help="write the LaTeX table to this file")
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="write PDF and PNG figures into this folder")] = None,
    models: ModelNames = None,
    seeds: SeedsOption = None,
    every: Annotated[bool, typer.Option("--all", help="all rows of a long table")] = False,
    no_samples: NoSamples = False,
    as_json: Json = False,
) -> None:
    """Show the results of finished steps; run nothing. Reads the labels and sources of the data sets."""
    plan, place = plan_of(suite, store, data, models, seeds, samples=not no_samples)
    results = results_of(plan, place)
    require_records(results, place, suite)
    print_report(results, as_json, every)
    resume_collector()
    if html:
        write_report_page(results, html)
        say(f"page: {html.absolute()}")
    if latex:
        from rib.report.latex import write_latex

        write_file(write_latex, results, latex)
        say(f"table: {latex.absolute()}")
    for folder, what in ((parquet, "tables"), (figures, "figures")):
        if folder:
            write_folder(results, folder, what)


def export(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[SUITE] FOLDER",
            help="a suite, default digits; the folder for the models",
            autocompletion=completion.exported,
        ),
    ],
    store: StorePath = STORE,
    data: DataPath = None,
    model: Annotated[str | None, typer.Option(help="only this model", autocompletion=completion.one_model)] = None,
    method: Annotated[str | None, typer.Option(help="only this method", autocompletion=completion.methods)] = None,
    tuned_on: Annotated[
        str | None, typer.Option(help="only models tuned on this data set", autocompletion=completion.downstream)
    ] = None,
    models: ModelNames = None,
    seeds: SeedsOption = None,
) -> None:
    """Write finished models, merged ones too, each with a model card; timm loads the folders of timm models."""
    from rib.report.model_folders import release, require_free
    from rib.steps import How, Workshop

    suite, folder = _suite_and_folder(words)
    plan, place = plan_of(suite, store, data, models, seeds)
    workshop = Workshop(plan.suite, place, How(device="cpu"), lambda _images, _passes: None)
    chosen = plan.chosen_models(model, method, tuned_on)
    wanted = [item for item in chosen if place.has(item.fit.key)]
    if not wanted:
        what = f"none of the {len(chosen):,} matching models is finished" if chosen else "no model of the suite matches"
        raise UserError(
            what, got=place.root, remedy=f"see `rib status {as_given(suite)}`; its store: {place.root.absolute()}"
        )
    if unfinished := len(chosen) - len(wanted):
        say(f"note: {unfinished:,} of the {len(chosen):,} matching models are not finished, and left out")
    if lost := next((key for item in wanted for key in item.fit.lost(place)), None):
        raise UserError(
            "the weights of a finished step were dropped",
            got=place.weights_path(lost),
            remedy="run the suite with --keep all and another --store, or narrow the export with --model, --method",
        )
    results = results_of(plan, place)
    require_free(results, wanted, folder)
    screen = console(stderr=True)
    resume_collector()
    for number, item in enumerate(wanted):
        with screen.status(f"writing model {number + 1:,} of {len(wanted):,} into {folder}"):
            written = release(results, item, workshop.weights(item.fit), folder)
        print(written)
    say(f"models: {len(wanted):,} in {folder.absolute()}")


def _suite_and_folder(words: list[str]) -> tuple[str, Path]:
    """The suite and the folder, in this order or, as in older versions, in the other order. Raises UserError."""
    suites = [word for word in words if is_suite(word)]
    if len(words) == 1 and not suites:
        return "digits", Path(words[0])
    if len(words) != 2 or not suites:
        raise UserError("rib export takes a suite and a folder", got=" ".join(words), valid="SUITE FOLDER")
    suite = words[0] if is_suite(words[0]) else words[1]
    return suite, Path(words[1] if suite == words[0] else words[0])


def verify(
    suite: SuiteName = "imagenet_rib",
    store: StorePath = STORE,
    data: DataPath = None,
    models: ModelNames = None,
    seeds: SeedsOption = None,
    numbers: Annotated[
        Path | None, typer.Option(help="TOML file of numbers to compare with; default: the paper's")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare accuracies with published ones. Exit code 1 if one differs beyond its tolerance, or none was measured."""
    from rib.report.verify import checks_json, checks_table, summary
    from rib.results.published import PUBLISHED, checks, read_numbers

    wanted = read_numbers(numbers or PUBLISHED)
    plan, place = plan_of(suite, store, data, models, seeds)
    found = checks(results_of(plan, place), wanted)
    if as_json:
        print(json_text(checks_json(found)))
    else:
        screen = console(highlight=False)
        screen.print(checks_table(found))
        screen.print(summary(found))
    if all(check.verdict == "missing" for check in found):
        say(f"nothing was compared: no step with a published number is done; run it: rib run {as_given(suite)}")
        raise typer.Exit(1)
    if any(check.verdict == "differs" for check in found):
        raise typer.Exit(1)


def recommend(
    suite: SuiteName = "digits",
    images: Annotated[int, typer.Option(min=1, help="number of images to tune on")] = 200,
    store: StorePath = STORE,
    data: DataPath = None,
    models: ModelNames = None,
    seeds: SeedsOption = None,
    as_json: Json = False,
) -> None:
    """Recommend a model and a method for a number of tuning images. Exit code 1 if the records do not suffice."""
    from rib.report.recommend import advice_json, advice_lines
    from rib.results.recommendation import advise

    plan, place = plan_of(suite, store, data, models, seeds)
    results = results_of(plan, place)
    require_records(results, place, suite)
    note_unstated(plan)
    advice = advise(results, images)
    if as_json:
        print(json_text(advice_json(advice)))
    else:
        screen = console(highlight=False)
        screen.print(advice_lines(advice, screen.width))
    if advice.declined:
        raise typer.Exit(1)
