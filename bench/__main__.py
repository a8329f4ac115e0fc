"""Measure every goal on this machine and print the table: `make bench`, or `python -m bench p2 p8 --quick`."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
import traceback
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench.base import Row, Setting, total_met
from bench.rates import rates
from rib.execute.malloc import keep_freed

GOALS = tuple(
    sorted((file.stem for file in Path(__file__).parent.glob("p*_*.py")), key=lambda n: int(n[1:].split("_")[0]))
)


LIBRARIES = ("torch", "numpy", "Pillow", "timm", "simplejpeg", "imagecorruptions", "tokenizers", "datasets")
"""Libraries that the figures depend on."""


def main() -> int:
    """Run the chosen benchmarks; exit code 1 if a goal is missed or could not be measured."""
    options = arguments()
    setting = Setting(options.device, options.quick)
    keep_freed()  # as in every process that runs steps; the peers have it too
    chosen = [name for name in GOALS if not options.goals or name.split("_")[0] in options.goals]
    rows = rates(setting.device).rows() if setting.gpu else []
    for name in chosen:
        began = time.perf_counter()
        print(f"{name} …", file=sys.stderr, flush=True)
        found = measured(name, setting)
        for row in found:
            print(f"  {row.what}: {row.measured} {row.wanted and f'({row.wanted})'}", file=sys.stderr, flush=True)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        rows += found
    show(rows, setting, options.markdown)
    return int(any(row.met is False for row in rows))


def measured(name: str, setting: Setting) -> list[Row]:
    """The rows of a goal. If it fails or its results differ from its peer's, one row says so, and the next goals
    still run."""
    try:
        rows: list[Row] = importlib.import_module(f"bench.{name}").measure(setting)
    except Exception as error:
        traceback.print_exc()
        number, why = name.split("_")[0].upper(), f"{type(error).__name__}: {error}"
        return [Row(number, name, "", "measured", "failed", False, why)]
    return rows


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("goals", nargs="*", help=f"of {', '.join(name.split('_')[0] for name in GOALS)}; default all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="smaller work, to see that it runs")
    parser.add_argument("--markdown", type=Path, help="also write the table here, for docs/benchmarks.md")
    options = parser.parse_args()
    if unknown := set(options.goals) - {name.split("_")[0] for name in GOALS}:
        parser.error(f"no such goal: {', '.join(sorted(unknown))}")
    return options


def machine(device: str) -> str:
    """The machine of the measurement, in words."""
    words = [f"{len(os.sched_getaffinity(0))} cores of {processor()}"]
    if device.startswith("cuda"):
        words.append(torch.cuda.get_device_name(device))
    return ", ".join([*words, f"Python {platform.python_version()}", *versions()])


def versions() -> list[str]:
    """Versions of the installed libraries."""
    found = []
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return found


def processor() -> str:
    """The processor's name, if the system reports it."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def show(rows: list[Row], setting: Setting, markdown: Path | None) -> None:
    """Print the table, and write it to a file if one is given."""
    table = Table(title=machine(setting.device), title_justify="left", row_styles=("", "dim"))
    for heading in ("", "measured", "against", "goal", "seen", "met"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("", "seen"))
    for row in rows:
        table.add_row(row.goal, row.what, row.against, row.wanted, row.measured, word(row.met))
    console = Console()
    console.print(table)
    for row in rows:
        if row.told:
            console.print(f"{row.goal} {row.what}: {row.told}", highlight=False)
    met, judged = total_met(rows)
    console.print(f"{met} of {judged} goals met" + (" (quick: not to quote)" if setting.quick else ""))
    if markdown:
        markdown.write_text("\n".join(lines(rows, setting)) + "\n")


def word(met: bool | None) -> str:
    """Text of the last column."""
    return "" if met is None else "yes" if met else "no"


def lines(rows: list[Row], setting: Setting) -> list[str]:
    """The table in Markdown."""
    head = [machine(setting.device), "", "| | measured | against | goal | seen | met |", "|---|---|---|---|---|---|"]
    body = [
        f"| {row.goal} | {row.what} | {row.against} | {row.wanted} | {row.measured} | {word(row.met)} |" for row in rows
    ]
    notes = [f"- {row.goal} {row.what}: {row.told}" for row in rows if row.told]
    return [*head, *body, *(["", *notes] if notes else [])]


if __name__ == "__main__":
    sys.exit(main())
