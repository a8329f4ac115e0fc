"""RIB from Python: `rib.run("digits")` does what the command does and returns the results as values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rib.errors import StoppedError
from rib.execute.progress import Watcher
from rib.execute.run import RunOutcome, execute
from rib.execute.runtime import Runtime
from rib.files import at_home
from rib.gates import parse_gate
from rib.plan import make_plan
from rib.plan.pair import Pair, make_pair
from rib.results.answer import Answer
from rib.results.comparison import Comparison, gate_names
from rib.results.results import Results
from rib.results.rows import Summary
from rib.steps import How
from rib.store.store import Store, store_folder
from rib.studies import find_study
from rib.suite.load import load_suite
from rib.suite.suite import Suite
from rib.text.terminal import console

if TYPE_CHECKING:
    import pandas

DEFAULT_STORE = Path("rib-store")


class Finished:
    """The results of a suite.

    Args:
        results: what its records say.
        failed: reason by title of each step that failed.
    """

    def __init__(self, results: Results, failed: dict[str, str]) -> None:
        self.results, self.failed = results, failed

    @property
    def summaries(self) -> list[Summary]:
        """The headline table: one row per model, method and size."""
        return self.results.summaries

    @property
    def ri(self) -> dict[tuple[str, str, int | None], dict[str, Any]]:
        """RI intervals in points, by (model, method, size) and downstream set."""
        return {(row.model, row.method, row.size): dict(row.ri) for row in self.summaries if row.ri}

    def table(self) -> None:
        """Print the headline table."""
        from rib.report.headline import headline

        screen = console()
        screen.print(headline(self.results, screen.width))

    def to_pandas(self) -> pandas.DataFrame:
        """One row a score: accuracy of a model on a data set, in percent. Needs pandas."""
        import dataclasses

        import pandas

        return pandas.DataFrame([dataclasses.asdict(score) for score in self.results.scores])


class Studied:
    """A study with its answer.

    Args:
        answer: what was found.
        results: of the suite that the study derived.
        outcome: what was done for it now.
    """

    def __init__(self, answer: Answer, results: Results, outcome: RunOutcome) -> None:
        self.answer, self.results, self.outcome = answer, results, outcome

    @property
    def complete(self) -> bool:
        """Whether nothing failed and nothing is missing."""
        return not self.outcome.failed and not self.results.unfinished()

    def table(self) -> None:
        """Print question, verdict and points."""
        from rib.report.answer_text import answer_lines

        screen = console(highlight=False)
        screen.print(answer_lines(self.answer, screen.width))

    def page(self, path: str | Path) -> None:
        """Write everything into one HTML file."""
        from rib.report.answer_page import write_answer

        write_answer(self.answer, self.results, Path(path))

    def figures(self, folder: str | Path) -> list[Path]:
        """Write its figure as PDF and PNG. Needs matplotlib."""
        from rib.report.answer_figures import write_answer_figure

        return write_answer_figure(self.answer, Path(folder))

    def to_json(self) -> dict[str, Any]:
        """The answer as JSON types."""
        from rib.report.answer_text import answer_json

        return answer_json(self.answer)


class ComparedModels(Comparison):
    """A comparison that can be printed and written."""

    def table(self) -> None:
        """Print what `rib compare` prints."""
        from rib.report.comparison_text import comparison_lines

        screen = console(highlight=False)
        screen.print(comparison_lines(self, screen.width))

    def page(self, path: str | Path) -> None:
        """Write everything into one HTML file. Raises UserError if it cannot be written there."""
        from rib.report.comparison_page import write_comparison

        write_comparison(self, Path(path))


def run(
    suite: str | Path | Suite,
    *,
    store: str | Path = DEFAULT_STORE,
    data: str | Path | None = None,
    how: How | None = None,
    watcher: Watcher | None = None,
    runtime: Runtime | None = None,
) -> Finished:
    """Do what a suite asks for and has not been done, and return its results.

    Call it under `if __name__ == "__main__":`, as it starts processes.

    Args:
        suite: a shipped suite's name, a path to a suite file, or a suite.
        store: folder of records.
        data: folder that the suite's relative paths start from.
        how: workers, device, checkpoints, retention.
        watcher: called with the progress.
        runtime: executor, limits, whether what failed is tried again.

    Raises:
        UserError: something in the suite, the data or the store is at fault.
        StoppedError: the user stopped it; call again to continue.
    """
    chosen = suite if isinstance(suite, Suite) else load_suite(suite, Path(data) if data else None)
    place = Store(store_folder(store))
    plan = make_plan(chosen, place.facts)
    outcome = execute(plan, place, how, watcher, runtime)
    if outcome.interrupted:
        raise StoppedError("interrupted; finished steps are kept, call again to continue")
    return Finished(Results(plan, place), outcome.failed)


def cache_store() -> Path:
    """The store of comparisons where none is named: RIB_STORE, or a folder in the user's cache.

    Raises:
        UserError: neither is known.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return at_home(os.environ.get("RIB_STORE") or home / "rib" / "store")


def study(
    name: str,
    *,
    suite: str | Path | Suite = "digits-studies",
    store: str | Path = DEFAULT_STORE,
    data: str | Path | None = None,
    how: How | None = None,
    watcher: Watcher | None = None,
) -> Studied:
    """Do what a study asks for and has not been done, and return its answer.

    Call it under `if __name__ == "__main__":`, as it starts processes.

    Args:
        name: of the study, as `rib study` lists them.
        suite: what it is derived from: a shipped suite's name, a path to a suite file, or a suite.
        store: folder of records.
        data: folder that the suite's relative paths start from.
        how: workers, device, checkpoints, retention.
        watcher: called with the progress.

    Raises:
        UserError: there is no such study, or the suite has too little to ask it of, or is at fault.
        StoppedError: the user stopped it; call again to continue.
    """
    base = suite if isinstance(suite, Suite) else load_suite(suite, Path(data) if data else None)
    found = find_study(name, base)
    place = Store(store_folder(store))
    plan = make_plan(found.suite(base), place.facts)
    outcome = execute(plan, place, how, watcher, Runtime(retry_failed=True))
    if outcome.interrupted:
        raise StoppedError("interrupted; finished steps are kept, call again to continue")
    results = Results(plan, place)
    return Studied(found.answer(results), results, outcome)


def compare(
    base: str | Path,
    tuned: str | Path,
    *,
    suite: str | Path | Suite = "digits",
    model: str | None = None,
    tuned_on: str | None = None,
    images: int | None = None,
    layers: Sequence[str] = (),
    view: Mapping[str, Any] | None = None,
    fail_if: Sequence[str] = (),
    store: str | Path | None = None,
    data: str | Path | None = None,
    how: How | None = None,
    watcher: Watcher | None = None,
) -> ComparedModels:
    """Compare a tuned model with the one that it was tuned from, and return what was found as values.

    Call it under `if __name__ == "__main__":`, as it starts processes.

    Args:
        base: a model of the suite or the catalogue, KIND:NAME, a checkpoint file, or a folder that timm loads.
        tuned: in the same forms; a file takes the base's architecture.
        suite: whose data sets the two are scored on: a shipped suite's name, a path to a suite file, or a suite.
        model: architecture of the base, where it is a file: a model's name, or KIND:NAME.
        tuned_on: data set of the suite that `tuned` was tuned on, if it was one of them.
        images: how many images it was tuned on.
        layers: patterns of layers for CKA; default the stem, the blocks, and what the head sees.
        view: what both models see of an image, where it is not what BASE states: any of size, crop, resize,
            interpolation, mean and std, as in a model's row.
        fail_if: gates, such as "ri < -2" (`rib.gates`).
        store: folder of records; default `cache_store()`.
        data: folder that the suite's relative paths start from.
        how: workers, device.
        watcher: called with the progress.

    Raises:
        UserError: something in what was given is at fault.
        StoppedError: the user stopped it; call again to continue.
    """
    chosen = suite if isinstance(suite, Suite) else load_suite(suite, Path(data) if data else None)
    place = Store(store_folder(store) if store else cache_store())
    options: dict[str, Any] = {"model": model, "tuned_on": tuned_on, "images": images, "layers": layers, "view": view}
    pair = make_pair(chosen, str(base), str(tuned), **options, cache=place.facts)
    return _compared(pair, fail_if, place, how, watcher)


def _compared(
    pair: Pair, fail_if: Sequence[str], place: Store, how: How | None, watcher: Watcher | None
) -> ComparedModels:
    gates = [parse_gate(text, gate_names(pair)) for text in fail_if]
    outcome = execute(pair.plan, place, how, watcher, Runtime(retry_failed=True))
    if outcome.interrupted:
        raise StoppedError("interrupted; finished steps are kept, call again to continue")
    return ComparedModels(pair, Results(pair.plan, place), gates, done=outcome.done)
