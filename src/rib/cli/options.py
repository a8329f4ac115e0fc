"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rib.cli import completion


class WholeHelp(TyperGroup):
    """Shows the summary of each command without cutting it."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, each with its first sentence."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, each.get_short_help_str(limit=1000)) for name, each in found if each and not each.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


STORE = Path("rib-store")


def store_place(name: str | Path) -> Path:
    """Return the folder of a store named on the command line. Raises UserError, as `store_folder`."""
    from rib.given import path_in
    from rib.store.remote import remote_url

    if remote_url(name) is None:
        return path_in(name, "--store")
    from rib.store.store import store_folder

    return store_folder(name)


def page_place(path: str) -> Path:
    """The path of a page to write. Raises UserError, as `target_in`."""
    from rib.report.targets import PAGE_START, target_in

    return target_in(path, "--html", PAGE_START)


def table_place(path: str) -> Path:
    """The path of a LaTeX table to write. Raises UserError, as `target_in`."""
    from rib.report.targets import LATEX_START, target_in

    return target_in(path, "--latex", LATEX_START)


HELP = "the store: a folder, or an address such as s3://bucket/folder"
StorePath = Annotated[Path, typer.Option("--store", envvar="RIB_STORE", parser=store_place, metavar="PATH", help=HELP)]
DataPath = Annotated[
    Path | None,
    typer.Option("--data", "--root", envvar="RIB_DATA", help="folder from which relative paths in the suite start"),
]


SuiteName = Annotated[
    str, typer.Argument(help="a shipped suite's name, or a path to a suite file", autocompletion=completion.suites)
]
ModelNames = Annotated[
    str | None,
    typer.Option(
        "--models",
        help="only these models, separated by commas: of the suite or the catalogue",
        autocompletion=completion.models,
    ),
]
SeedsOption = Annotated[
    str | None,
    typer.Option("--seeds", help="tuning seeds: a number, e.g. 3, or a list, e.g. 0,1,4; default: the suite's"),
]
PackBudget = Annotated[
    str | None,
    typer.Option("--pack-budget", help="disk space for decoded data, e.g. 200GB; default: free space minus a reserve"),
]
NoSamples = Annotated[
    bool, typer.Option("--no-samples", help="leave the sample images or texts of the data sets out of the page")
]
TablesFolder = Annotated[
    Path | None, typer.Option("--parquet", help="write per-example predictions and scores into this folder")
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document")]

Workers = Annotated[int | None, typer.Option(min=1, help="processes; default: one per core, or one per GPU")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")]

ViewSize = Annotated[int | None, typer.Option(help="image side in pixels that both models see; default: as BASE")]
ViewCrop = Annotated[float | None, typer.Option(help="centre crop's share of the resized image's side")]
ViewResize = Annotated[str | None, typer.Option(help="which sides are resized: shortest, squash, border")]
ViewFilter = Annotated[str | None, typer.Option("--interpolation", help="Pillow's filter, e.g. bilinear, bicubic")]
ViewMean = Annotated[
    str | None, typer.Option(help="normalisation, 0 … 1 scale: one number, or three separated by commas")
]
ViewStd = Annotated[str | None, typer.Option(help="standard deviation, as for --mean")]
