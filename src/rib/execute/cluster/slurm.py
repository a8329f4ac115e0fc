"""Slurm: joiners as arrays of jobs, through submitit (https://github.com/facebookincubator/submitit)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rib.errors import UserError
from rib.execute.cluster.joiner import Engine, Joiner
from rib.execute.runtime import SlurmRuntime


class Requeued:
    """A joiner that is queued again if its node is taken away or its time limit is reached.

    Its steps resume from their last checkpoint on any driver.
    """

    def __init__(self, joiner: Joiner) -> None:
        self.joiner = joiner

    def __call__(self) -> None:
        """Run the joiner."""
        self.joiner()

    def checkpoint(self) -> Any:
        """The job that submitit queues after a preemption."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SlurmEngine(Engine):
    """Starts joiners as Slurm jobs.

    Args:
        runtime: partition, time limit and resources per job.
        store: the store's folder, for logs.

    Raises:
        UserError: submitit is not installed, or this machine has no Slurm.
    """

    def __init__(self, runtime: SlurmRuntime, store: Path) -> None:
        try:
            import submitit
        except ImportError:
            raise UserError(
                "the executor slurm needs the package submitit", remedy="pip install 'rib-benchmark[slurm]'"
            ) from None
        folder = Path(runtime.logs) if runtime.logs else store.resolve() / "slurm"
        try:
            self._executor = submitit.AutoExecutor(folder, cluster=runtime.cluster)
        except RuntimeError as error:
            raise UserError(
                "there is no Slurm on this machine", got=error, remedy="run it where sbatch is, or --executor local"
            ) from None
        given = {
            "slurm_partition": runtime.partition,
            "slurm_account": runtime.account,
            "slurm_qos": runtime.qos,
            "mem_gb": runtime.memory_gb,
            "slurm_additional_parameters": {"requeue": True} | runtime.options,
        }
        self._executor.update_parameters(
            name="rib",
            timeout_min=runtime.minutes,
            gpus_per_node=runtime.gpus,
            cpus_per_task=runtime.cpus,
            **{name: value for name, value in given.items() if value is not None},
        )

    def __enter__(self) -> SlurmEngine:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def size(self) -> int:
        """One joiner by default."""
        return 1

    def start(self, joiners: Sequence[Joiner]) -> list[Any]:
        """Submit an array with one job per joiner. Raises UserError if Slurm refuses it."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            with self._executor.batch():
                return [self._executor.submit(Requeued(joiner)) for joiner in joiners]
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise UserError(
                "Slurm does not accept the jobs", got=str(error).strip(), remedy="see [slurm] in the runtime file"
            ) from None

    def ended(self, handle: Any) -> str | None:
        """How a job ended: from the file that the job leaves for submitit, or from Slurm."""
        if not handle.done():
            return None
        if not handle.paths.result_pickle.exists():  # submitit would wait for it
            return f"job {handle.job_id} is no more ({handle.state.lower()})"
        error = handle.exception()
        return "" if error is None else _told(str(error))

    def stop(self, handle: Any) -> None:
        """Cancel a job."""
        with suppress(Exception):
            handle.cancel(check=False)


def _told(error: str) -> str:
    """Summarise the error of a job: the last line of its traceback."""
    trace = error.partition("\n-----")[2].partition("\n-----")[0] or error
    return ([line.strip() for line in trace.splitlines() if line.strip()] or [""])[-1]
