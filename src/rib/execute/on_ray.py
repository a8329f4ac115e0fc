"""Ray: joiners as tasks of a cluster (https://docs.ray.io)."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from rib.errors import UserError
from rib.execute.fleet import Engine, Joiner
from rib.execute.runtime import RayRuntime


class RayEngine(Engine):
    """Starts joiners as tasks of Ray.

    A cluster that it starts itself listens on the loopback interface and has no dashboard, unless told otherwise.

    Args:
        runtime: address of the cluster, what a joiner has.

    Raises:
        UserError: Ray is not installed, or the cluster is not there.
    """

    def __init__(self, runtime: RayRuntime) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anyone
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise UserError(
                "the executor ray needs the package ray", remedy="pip install 'rib-benchmark[ray]'"
            ) from None
        self._ray, self._runtime = ray, runtime

    def __enter__(self) -> RayEngine:
        runtime = self._runtime
        own: dict[str, Any] = {
            "_node_ip_address": runtime.bind,
            "include_dashboard": runtime.dashboard,
            "dashboard_host": runtime.bind,
            "_temp_dir": runtime.temporary,
        }
        try:
            self._ray.init(
                address=runtime.address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": runtime.environment} if runtime.environment else None,
                **({} if runtime.address else own),
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                "Ray cannot be reached", got=error, valid="ray.address: HOST:PORT, 'auto', or none to start one here"
            ) from None
        return self

    def __exit__(self, *error: object) -> None:
        self._ray.shutdown()

    def size(self) -> int:
        """As many as the cluster's GPUs, or its cores, have place for."""
        there = self._ray.cluster_resources()
        gpus = self._gpus()
        return max(1, int(there.get("GPU", 0) / gpus if gpus else there.get("CPU", 1) / self._runtime.cpus))

    def _gpus(self) -> float:
        if self._runtime.gpus is not None:
            return self._runtime.gpus
        return 1.0 if self._ray.cluster_resources().get("GPU", 0) else 0.0

    def start(self, joiners: Sequence[Joiner]) -> list[Any]:
        """A task each. Ray does not try one again: the fleet starts another, and knows that the first is dead."""
        task = self._ray.remote(num_cpus=self._runtime.cpus, num_gpus=self._gpus(), max_retries=0)(_join)
        return [task.remote(joiner) for joiner in joiners]

    def ended(self, handle: Any) -> str | None:
        """As Ray knows it."""
        done, _ = self._ray.wait([handle], timeout=0)
        if not done:
            return None
        try:
            self._ray.get(handle)
        except self._ray.exceptions.RayError as error:
            return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return ""

    def stop(self, handle: Any) -> None:
        """Cancel a task."""
        with suppress(Exception):
            self._ray.cancel(handle, force=True)


def _join(joiner: Joiner) -> None:
    joiner()
