"""Runtime: where steps run, and under which limits. None of its fields is part of a key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rib.files import read_toml
from rib.recipe import Frozen
from rib.suite.validation import validated


class RayRuntime(Frozen):
    """Joiners as tasks of Ray."""

    address: str | None = Field(None, description="an existing cluster, 'auto' or HOST:PORT; none: start one here")
    gpus: float | None = Field(None, ge=0, description="GPUs per joiner, or a part of one; default 1 if there are any")
    cpus: float = Field(1, gt=0, description="cores per joiner")
    bind: str = Field("127.0.0.1", description="of a cluster started here: any other address lets other machines in")
    dashboard: bool = Field(False, description="whether a cluster started here has a dashboard")
    temporary: str | None = Field(None, description="short folder for Ray's sockets and logs of a cluster started here")
    environment: dict[str, str] = Field(default_factory=dict, description="environment variables of the joiners")

    @property
    def where(self) -> str | None:
        """The cluster's address, if known: 'auto' may refer to Ray's own variable."""
        return (os.environ.get("RAY_ADDRESS") or self.address) if self.address == "auto" else self.address

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the cluster."""
        host = self.where.rpartition(":")[0] if self.where else self.bind
        return host in ("127.0.0.1", "localhost")


class SlurmRuntime(Frozen):
    """Joiners as an array of Slurm jobs."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus: int = Field(1, ge=0, description="GPUs per job")
    cpus: int = Field(4, ge=1, description="cores per job")
    memory_gb: float | None = Field(None, gt=0, description="memory per job")
    minutes: int = Field(240, ge=1, description="time limit of a job; the next job does the rest")
    logs: str | None = Field(None, description="folder of scripts and logs; default STORE/slurm")
    cluster: Literal["slurm", "local"] = Field("slurm", description="'local' runs the jobs on this machine")
    options: dict[str, Any] = Field(default_factory=dict, description="further options of sbatch")


class Runtime(Frozen):
    """Where steps run, and their time limit."""

    executor: Literal["local", "ray", "slurm"] = "local"
    workers: int | None = Field(None, ge=1, description="processes, or joiners of a cluster")
    step_minutes: float | None = Field(None, gt=0, description="a step that takes longer is ended and tried once more")
    retry_failed: bool = Field(False, description="try again what failed and would fail again")
    ray: RayRuntime = Field(default_factory=RayRuntime)
    slurm: SlurmRuntime = Field(default_factory=SlurmRuntime)

    @property
    def is_here(self) -> bool:
        """Whether only this machine runs steps."""
        return {"ray": self.ray.address is None, "slurm": self.slurm.cluster == "local"}.get(self.executor, True)

    @property
    def gpus(self) -> float | None:
        """GPUs per joiner; None if the engine decides."""
        return {"ray": self.ray.gpus, "slurm": self.slurm.gpus}.get(self.executor)

    def on_device(self, device: str) -> Runtime:
        """The same runtime, without GPUs if the device is the CPU, unless the runtime file requests them."""
        if device != "cpu":
            return self
        ray, slurm = (
            part if "gpus" in part.model_fields_set else part.model_copy(update={"gpus": 0})
            for part in (self.ray, self.slurm)
        )
        return self.model_copy(update={"ray": ray, "slurm": slurm})


def read_runtime(file: Path | None, **given: Any) -> Runtime:
    """The runtime of a TOML file; values in `given` that are not None have priority.

    Raises:
        UserError: the file does not exist, or a key or value is wrong.
    """
    table: dict[str, Any] = {}
    if file is not None:
        table = read_toml(file, "the runtime file")
    chosen = {name: value for name, value in given.items() if value is not None}
    return validated(Runtime, table | chosen, str(file or "runtime"))
