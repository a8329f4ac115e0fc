"""RIB from Python: `rib.run("digits")` does what the command does and returns the results as values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rib.errors import StepError
from rib.execute.local import execute
from rib.execute.progress import Watcher
from rib.plan import make_plan
from rib.report.results import Results, Summary
from rib.store import Store
from rib.suite import Suite, load_suite
from rib.work import How

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
        """The headline table: one row a model, method and size."""
        return self.results.summaries

    @property
    def ri(self) -> dict[tuple[str, str, int | None], dict[str, Any]]:
        """RI intervals in points, by (model, method, size) and downstream set."""
        return {(row.model, row.method, row.size): dict(row.ri) for row in self.summaries if row.ri}

    def table(self) -> None:
        """Print the headline table."""
        from rich.console import Console

        from rib.report.tables import headline

        console = Console()
        console.print(headline(self.results, console.width))

    def to_pandas(self) -> pandas.DataFrame:
        """One row a score: accuracy of a model on a data set, in percent. Needs pandas."""
        import dataclasses

        import pandas

        return pandas.DataFrame([dataclasses.asdict(score) for score in self.results.scores])


def run(
    suite: str | Path | Suite,
    *,
    store: str | Path = DEFAULT_STORE,
    data: str | Path | None = None,
    how: How | None = None,
    watcher: Watcher | None = None,
) -> Finished:
    """Do what a suite asks for and has not been done, and return its results.

    Call it under `if __name__ == "__main__":`, as it starts processes.

    Args:
        suite: a shipped suite's name, a path to a suite file, or a suite.
        store: folder of records.
        data: folder that the suite's relative paths start from.
        how: workers, device, checkpoints, retention.
        watcher: told of progress.

    Raises:
        UserError: something in the suite, the data or the store is at fault.
        StepError: the run was interrupted; call again to go on.
    """
    chosen = suite if isinstance(suite, Suite) else load_suite(suite, Path(data) if data else None)
    place = Store(Path(store))
    plan = make_plan(chosen, place.facts)
    outcome = execute(plan, place, how, watcher)
    if outcome.interrupted:
        raise StepError("interrupted; everything finished is kept, call again to go on")
    return Finished(Results(plan, place), outcome.failed)
