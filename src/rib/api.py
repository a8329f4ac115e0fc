"""RIB from Python: `rib.run("digits")` does what the command does and returns the results as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from rib.errors import StoppedError, UserError
from rib.execute.progress import Bar, Watcher
from rib.execute.run import RunOutcome, execute
from rib.execute.runtime import Runtime
from rib.gates import parse_gate
from rib.given import instance_in, path_in, texts_in
from rib.plan import Plan, make_plan
from rib.plan.cost import Cost, CostEstimate
from rib.plan.pair import Pair, make_pair
from rib.report.shown import Shown
from rib.results.answer import Answer
from rib.results.comparison import Comparison, gate_names
from rib.results.recommendation import Advice, advise
from rib.results.results import Results
from rib.results.rows import Summary
from rib.steps import How, Step
from rib.store.store import Store, cache_store, store_folder
from rib.studies import find_study
from rib.suite.load import load_suite
from rib.suite.suite import Suite
from rib.text.terminal import console

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure as MatplotlibFigure

DEFAULT_STORE = Path("rib-store")


class Finished(Shown):
    """The results of a suite.

    Args:
        results: the results in its records.
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
        """RI intervals in points, by (model, method, size) and then by tuned set."""
        return {(row.model, row.method, row.size): dict(row.ri) for row in self.summaries if row.ri}

    def lines(self, width: int) -> RenderableType:
        """The headline table."""
        from rib.report.headline import headline

        return headline(self.results, width)

    def page(self, path: str | Path) -> None:
        """Write the page, one HTML file. Raises UserError if the file cannot be written."""
        from rib.report.page import write_page

        write_page(self.results, path_in(path, "the path of the page"))

    def figures(self, folder: str | Path) -> list[Path]:
        """Write the figures as PDF and PNG. Needs matplotlib."""
        from rib.report.figures import write_figures

        return list(write_figures(self.results, path_in(folder, "the folder")))

    def plot(self, kind: str = "mri") -> MatplotlibFigure:
        """One figure of the main size, as a matplotlib figure; a notebook shows it after `%matplotlib inline`.

        Args:
            kind: "mri", "accuracy", "tradeoff" (own accuracy against mRI) or "sizes" (mRI against tuning images).

        Raises:
            UserError: matplotlib is not installed, there is no such kind, or the results have nothing for it.
        """
        from rib.report.figures import plot

        return plot(self.results, kind)

    def rows(self, table: str = "mri") -> list[dict[str, Any]]:
        """A table as dictionaries: the columns of the Parquet file of that name (docs/records.md).

        Args:
            table: "mri" (a row per model, method and size), "ri" (per tuned set too), "scores" (accuracies) or
                "changes". An interval has three columns: NAME, NAME_low, NAME_high.

        Raises:
            UserError: there is no such table.
        """
        from rib.report.parquet import rows_of

        return rows_of(self.results, table)

    def to_pandas(self, table: str = "mri") -> pandas.DataFrame:
        """The `rows` of a table as a data frame. Raises UserError without the extra `pandas`."""
        try:
            import pandas
        except ImportError:
            raise UserError(
                "to_pandas needs the extra `pandas`",
                got="pandas is not installed",
                remedy="pip install 'rib-benchmark[pandas]'; or use rows()",
            ) from None
        return pandas.DataFrame(self.rows(table))


class Studied(Shown):
    """A study with its answer.

    Args:
        answer: the answer.
        results: results of the suite that the study derived.
        outcome: the steps that this call ran.
    """

    def __init__(self, answer: Answer, results: Results, outcome: RunOutcome) -> None:
        self.answer, self.results, self.outcome = answer, results, outcome

    @property
    def complete(self) -> bool:
        """Whether nothing failed and nothing is missing."""
        return not self.outcome.failed and not self.results.unfinished()

    def lines(self, width: int) -> RenderableType:
        """The question, the verdict and the points."""
        from rib.report.answer_text import answer_lines

        return answer_lines(self.answer, width)

    def page(self, path: str | Path) -> None:
        """Write the page, one HTML file. Raises UserError if the file cannot be written."""
        from rib.report.answer_page import write_answer

        write_answer(self.answer, self.results, path_in(path, "the path of the page"))

    def figures(self, folder: str | Path) -> list[Path]:
        """Write the figure as PDF and PNG. Needs matplotlib."""
        from rib.report.answer_figures import write_answer_figure

        return write_answer_figure(self.answer, path_in(folder, "the folder"))

    def to_json(self) -> dict[str, Any]:
        """The answer as JSON types."""
        from rib.report.answer_text import answer_json

        return answer_json(self.answer)


class ComparedModels(Comparison, Shown):
    """A comparison that can be printed, and written as a page."""

    def lines(self, width: int) -> RenderableType:
        """The output of `rib compare`."""
        from rib.report.comparison_text import comparison_lines

        return comparison_lines(self, width)

    def page(self, path: str | Path) -> None:
        """Write the page, one HTML file. Raises UserError if the file cannot be written."""
        from rib.report.comparison_page import write_comparison

        write_comparison(self, path_in(path, "the path of the page"))


class Planned(Shown):
    """The steps of a suite, before any of them runs.

    Args:
        plan: the plan with the steps.
        store: the store with the finished steps.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step once, each after those that it needs."""
        return self.plan.steps

    @property
    def cost(self) -> Cost:
        """The cost of the missing steps."""
        return CostEstimate(self.plan, self.store).cost

    def lines(self, width: int) -> RenderableType:
        """The steps by kind, with the number of finished ones."""
        from rib.report.plan_status import plan_table

        return plan_table(self.plan, self.store, False)


class Recommended(Shown):
    """The model and method that the records of a suite support.

    Args:
        advice: the recommendation.
    """

    def __init__(self, advice: Advice) -> None:
        self.advice = advice

    def lines(self, width: int) -> RenderableType:
        """The output of `rib recommend`."""
        from rib.report.recommend import advice_lines

        return advice_lines(self.advice, width)


def _suite(suite: str | Path | Suite, data: str | Path | None) -> Suite:
    if not isinstance(suite, Suite):
        return load_suite(suite, data)
    return suite if data is None else suite.based_at(data)


@contextmanager
def _watching(watcher: Watcher | None) -> Iterator[Watcher | None]:
    """The caller's watcher; by default a progress bar in a terminal or a notebook, and nothing elsewhere."""
    screen = console(stderr=True)
    if watcher is not None or not (screen.is_terminal or screen.is_jupyter):
        yield watcher
        return
    with Bar(screen) as bar:
        yield bar


def plan(suite: str | Path | Suite, *, store: str | Path = DEFAULT_STORE, data: str | Path | None = None) -> Planned:
    """The steps of a suite and their cost. Runs nothing; published data and weights may be missing.

    Args:
        suite: a shipped suite's name, a path to a suite file, or a suite.
        store: folder of the store.
        data: folder to which the suite's paths are relative.

    Raises:
        UserError: the suite, the data or the store has a fault.
    """
    place = Store(store_folder(store))
    return Planned(make_plan(_suite(suite, data), place.facts, assume=True), place)


def recommend(
    suite: str | Path | Suite = "digits",
    *,
    images: int = 200,
    store: str | Path = DEFAULT_STORE,
    data: str | Path | None = None,
) -> Recommended:
    """The model and method that the records of a finished suite support for a number of tuning images.

    Args:
        suite: a shipped suite's name, a path to a suite file, or a suite.
        images: number of tuning images.
        store: folder of the store.
        data: folder to which the suite's paths are relative.

    Raises:
        UserError: the suite, the data or the store has a fault, or the store has no records of the suite.
    """
    place = Store(store_folder(store))
    results = Results(make_plan(_suite(suite, data), place.facts), place)
    if not results.records:
        raise UserError(
            f"the store has no records of suite {results.suite.name!r}",
            got=place.root,
            remedy=f"run it: rib.run({results.suite.name!r}, store={str(store)!r})",
        )
    return Recommended(advise(results, images))


def run(
    suite: str | Path | Suite,
    *,
    store: str | Path = DEFAULT_STORE,
    data: str | Path | None = None,
    how: How | None = None,
    watcher: Watcher | None = None,
    runtime: Runtime | None = None,
) -> Finished:
    """Run the missing steps of a suite and return its results.

    Args:
        suite: a shipped suite's name, a path to a suite file, or a suite.
        store: folder of the store.
        data: folder to which the suite's paths are relative.
        how: workers, device, checkpoints, and which weights to keep.
        watcher: called with the progress.
        runtime: executor, limits, and whether to retry failed steps.

    Raises:
        UserError: the suite, the data or the store has a fault.
        StoppedError: the user stopped the run; call again to continue.
    """
    place = Store(store_folder(store))
    planned = make_plan(_suite(suite, data), place.facts)
    outcome = _executed(planned, place, how, watcher, runtime)
    return Finished(Results(planned, place), outcome.failed)


def _executed(
    planned: Plan, place: Store, how: How | None, watcher: Watcher | None, runtime: Runtime | None
) -> RunOutcome:
    how, runtime = instance_in(how or How(), How, "how"), instance_in(runtime or Runtime(), Runtime, "runtime")
    with _watching(watcher) as shown:
        outcome = execute(planned, place, how.available(), shown, runtime)
    if outcome.interrupted:
        raise StoppedError("interrupted; finished steps are kept, call again to continue")
    return outcome


def study(
    name: str,
    *,
    suite: str | Path | Suite = "digits-studies",
    store: str | Path = DEFAULT_STORE,
    data: str | Path | None = None,
    how: How | None = None,
    watcher: Watcher | None = None,
) -> Studied:
    """Run the missing steps of a study and return its answer.

    Args:
        name: name of the study, as in `rib study`.
        suite: the suite to derive it from: a shipped suite's name, a path to a suite file, or a suite.
        store: folder of the store.
        data: folder to which the suite's paths are relative.
        how: workers, device, checkpoints, and which weights to keep.
        watcher: called with the progress.

    Raises:
        UserError: there is no such study, or the suite has a fault or too few models, sizes, sets or seeds for it.
        StoppedError: the user stopped the run; call again to continue.
    """
    base = _suite(suite, data)
    found = find_study(name, base)
    place = Store(store_folder(store))
    planned = make_plan(found.suite(base), place.facts)
    outcome = _executed(planned, place, how, watcher, Runtime(retry_failed=True))
    results = Results(planned, place)
    return Studied(found.answer(results), results, outcome)


def compare(
    base: str | Path,
    tuned: str | Path,
    *,
    suite: str | Path | Suite = "digits",
    model: str | None = None,
    tuned_on: str | None = None,
    images: int | None = None,
    layers: Sequence[str] | str = (),
    analyses: bool = True,
    view: Mapping[str, Any] | None = None,
    fail_if: Sequence[str] | str = (),
    store: str | Path | None = None,
    data: str | Path | None = None,
    how: How | None = None,
    watcher: Watcher | None = None,
) -> ComparedModels:
    """Compare a tuned model with its base, and return the results as values.

    Args:
        base: a model of the suite or the catalogue, KIND:NAME, a checkpoint file, or a folder that timm loads.
        tuned: in the same forms; a file takes the base's architecture.
        suite: the suite whose data sets score both models: a shipped suite's name, a path to a suite file, or a suite.
        model: architecture of a base that is a file: a model's name, or KIND:NAME.
        tuned_on: the tuned set, if it is a data set of the suite.
        images: number of tuning images.
        layers: patterns of layers for CKA, or one pattern; by default the stem, the blocks, and the input of the head.
        analyses: whether to analyse features, weights and running statistics too, in up to half of the time.
        view: preprocessing of both models, if it is not the one that BASE states: any of size, crop, resize,
            interpolation, mean and std, as in a model's row.
        fail_if: gates, such as "ri < -2" (`rib.gates`); one text is one gate.
        store: folder of the store; by default `cache_store()`.
        data: folder to which the suite's paths are relative.
        how: workers and device.
        watcher: called with the progress.

    Raises:
        UserError: an argument, the suite, the data or the store has a fault.
        StoppedError: the user stopped the run; call again to continue.
    """
    chosen = _suite(suite, data)
    place = Store(cache_store() if store is None else store_folder(store))
    options: dict[str, Any] = {"model": model, "tuned_on": tuned_on, "images": images, "layers": layers, "view": view}
    options["analyses"] = instance_in(analyses, bool, "analyses")
    pair = make_pair(chosen, base, tuned, **options, cache=place.facts)
    return _compared(pair, fail_if, place, how, watcher)


def _compared(
    pair: Pair, fail_if: Sequence[str] | str, place: Store, how: How | None, watcher: Watcher | None
) -> ComparedModels:
    gates = [parse_gate(text, gate_names(pair)) for text in texts_in(fail_if, "fail_if")]
    outcome = _executed(pair.plan, place, how, watcher, Runtime(retry_failed=True))
    return ComparedModels(pair, Results(pair.plan, place), gates, done=outcome.done)
