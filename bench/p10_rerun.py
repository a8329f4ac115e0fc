"""P10: a finished sweep run again, a method added to it, and the growth of planning time with the number of steps."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from bench.base import Row, Setting, at_most
from bench.commands import interactive
from rib.execute.schedule import jobs
from rib.models.build import build
from rib.models.catalogue import ModelRow
from rib.models.describe import describe
from rib.models.weights import take_weights, write_weights
from rib.plan import Plan, make_plan, missing
from rib.store.store import Store
from rib.suite.load import load_suite, parse_suite, shipped
from rib.suite.suite import Suite

METHODS = ("finetune", "linear_probe", "lp_ft", "l2_sp", "ewc", "lwf", "wise_ft", "soup", "greedy_soup")
ADDED = "best_rate"


def measure(setting: Setting) -> list[Row]:
    """Time the command as a user runs it, in separate processes; planning is timed in this one."""
    with tempfile.TemporaryDirectory() as folder:
        return [*reruns(setting, Path(folder)), *planning(setting, Path(folder))]


def reruns(setting: Setting, folder: Path) -> list[Row]:
    """Time a first run, a second run and a run with one more method. The second run must print what the first one
    printed."""
    name = "digits-quick" if setting.quick else "digits"
    suite, store = load_suite(name), Store(folder / "store")
    cold, first = command(name, store)
    again = sorted(command(name, store) for _ in range(setting.repeats(5)))
    seconds = again[len(again) // 2][0]
    assert all(shown == first for _, shown in again), "the report of a finished run changed"
    waited = interactive(setting, name, store)

    before, plan = store.keys(), make_plan(with_method(suite, ADDED), store.facts)
    own = {step.key for step in missing(plan.steps, store)}
    expected = asked_for(plan, ADDED) - before
    file = folder / "grown.toml"
    file.write_text(shipped()[name].read_text().replace('["finetune", ', f'["{ADDED}", "finetune", ', 1))
    command(str(file), store)
    made = store.keys() - before
    what = f"finished {name} ({len(before):,} records)"
    return [
        at_most("P10", f"{what} again", f"its cold run, {cold:.0f} s", 0.01, seconds / cold, caution(setting)),
        Row(
            "P10",
            f"{what}, one method added",
            "its own steps",
            f"{len(expected):,} steps",
            f"{len(made):,} steps",
            made == own == expected,
        ),
        *waited,
    ]


def caution(setting: Setting) -> str:
    """What a reader of a quick run should know."""
    return "the quick suite is so short that starting Python is most of it" if setting.quick else ""


def asked_for(plan: Plan, method: str) -> set[str]:
    """Keys of a method's weights, of their ingredients, of its predictions and of its analyses."""
    runs = [run for run in plan.runs if run.method == method]
    fits = [run.fit for run in runs]
    found = {predict.key for run in runs for predict in run.scores.values()}
    found |= {look.step.key for look in plan.looks if look.run.method == method}
    while fits:
        fit = fits.pop()
        found.add(fit.key)
        fits += fit.ingredients
    return found


def with_method(suite: Suite, name: str) -> Suite:
    """The suite with one more method in its first block of runs."""
    first, *others = suite.runs
    grown = first.model_copy(update={"methods": (*first.methods, name)})
    return suite.model_copy(update={"runs": (grown, *others)}).based_at(suite.base)


def command(suite: str, store: Store) -> tuple[float, str]:
    """Wall seconds of `rib run`, and its output."""
    words = [sys.executable, "-m", "rib", "run", suite, "--store", str(store.root)]
    surroundings = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
    began = perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=surroundings)
    return perf_counter() - began, done.stdout


def planning(setting: Setting, folder: Path) -> list[Row]:
    """Time the plans of suites with many models, each with its own weights: steps, keys, missing steps and jobs."""
    sizes = (2, 7) if setting.quick else (7, 65)
    suites = [made_up(models, folder) for models in sizes]
    for suite in suites:
        planned(suite, folder)  # data and weights are fingerprinted once, before
    taken: list[list[tuple[float, int]]] = [[], []]
    for _ in range(setting.repeats(5)):
        for place, suite in enumerate(suites):
            taken[place].append(planned(suite, folder))
    (few, steps), (many, more) = (sorted(each)[len(each) // 2] for each in taken)
    growth = (many / more) / (few / steps)
    return [
        Row("P10", f"plan {more:,} steps", "the clock", "seconds: ≤ 10 s", f"{many:.2f} s", many <= 10),
        at_most("P10", f"plan {more:,} steps, time per step", f"{steps:,} steps", 1.5, growth),
    ]


def planned(suite: Suite, folder: Path) -> tuple[float, int]:
    """Processor seconds from a suite to its jobs, and the number of its steps."""
    began = process_time()
    plan = make_plan(suite, folder / "facts")
    todo = missing(plan.steps, Store(folder / "nothing"))
    jobs(todo)
    return process_time() - began, len(plan.steps)


def made_up(models: int, folder: Path) -> Suite:
    """A suite with the embedded data and models of tiny weights, each in its own file."""
    rows: dict[str, Mapping[str, Any]] = {f"net{number}": net(number, folder) for number in range(models)}
    downstream = load_suite("digits").downstream
    return parse_suite(
        {
            "name": f"made-up-{models}",
            "reference": "digits:ref",
            "downstream": downstream,
            "evaluate": ["digits:corrupted"],
            "models": list(rows),
            "model": rows,
            "held_out": 0.15,
            "seeds": [0, 1],
            "runs": [{"methods": METHODS, "sizes": [200]}],
            "analyses": [{"names": ["cka", "drift"]}],
        }
    ).based_at(folder)


def net(number: int, folder: Path) -> Mapping[str, Any]:
    """A row of a small net with its own weights."""
    file = folder / f"net{number}.safetensors"
    row = {"build": "rib.models.small:small_resnet", "arguments": {"width": 8}, "size": 28, "weights": file.name}
    if not file.exists():
        architecture = describe(ModelRow.model_validate(row), 10, folder)
        write_weights(file, take_weights(build(architecture, seed=number).net))
    return row
