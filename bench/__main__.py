"""Measure every goal on this machine and print the table: `make bench`, or `python -m bench p2 p8 --quick`."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench.base import Row, Setting, total_met
from rib.execute.memory import keep_freed

GOALS = tuple(
    sorted((file.stem for file in Path(__file__).parent.glob("p*_*.py")), key=lambda n: int(n[1:].split("_")[0]))
)


def main() -> None:
    """Run the benchmarks that were asked for; exit status 1 where a goal is missed."""
    options = arguments()
    setting = Setting(options.device, options.quick)
    keep_freed()  # as every process does that does steps; the peers have it too
    chosen = [name for name in GOALS if not options.goals or name.split("_")[0] in options.goals]
    rows: list[Row] = []
    for name in chosen:
        began = time.perf_counter()
        print(f"{name} …", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"bench.{name}").measure(setting)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    show(rows, setting, options.markdown)


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("goals", nargs="*", help=f"of {', '.join(name.split('_')[0] for name in GOALS)}; default all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="smaller work, to see that it runs")
    parser.add_argument("--markdown", type=Path, help="also write the table here, for docs/benchmarks.md")
    return parser.parse_args()


def machine(device: str) -> str:
    """What the figures were measured on, in words."""
    words = [f"{len(os.sched_getaffinity(0))} cores of {processor()}"]
    if device.startswith("cuda"):
        words.append(torch.cuda.get_device_name(device))
    return ", ".join([*words, f"Python {platform.python_version()}", f"torch {torch.__version__}"])


def processor() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def show(rows: list[Row], setting: Setting, markdown: Path | None) -> None:
    """Print the table, and write it where asked."""
    table = Table(title=machine(setting.device), title_justify="left", row_styles=("", "dim"))
    for heading in ("", "measured", "against", "goal", "seen", "met"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("", "seen"))
    for row in rows:
        table.add_row(row.goal, row.what, row.against, row.wanted, row.measured, word(row.met))
    console = Console()
    console.print(table)
    for row in rows:
        if row.note:
            console.print(f"{row.goal} {row.what}: {row.note}", highlight=False)
    met, judged = total_met(rows)
    console.print(f"{met} of {judged} goals met" + (" (quick: not to quote)" if setting.quick else ""))
    if markdown:
        markdown.write_text("\n".join(lines(rows, setting)) + "\n")


def word(met: bool | None) -> str:
    """For the last column."""
    return "" if met is None else "yes" if met else "no"


def lines(rows: list[Row], setting: Setting) -> list[str]:
    """The table in Markdown."""
    head = [machine(setting.device), "", "| | measured | against | goal | seen | met |", "|---|---|---|---|---|---|"]
    body = [
        f"| {row.goal} | {row.what} | {row.against} | {row.wanted} | {row.measured} | {word(row.met)} |" for row in rows
    ]
    notes = [f"- {row.goal} {row.what}: {row.note}" for row in rows if row.note]
    return [*head, *body, *(["", *notes] if notes else [])]


if __name__ == "__main__":
    main()
