"""Ray: joiners as tasks of a cluster (https://docs.ray.io)."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from rib.errors import UserError
from rib.execute.cluster.joiner import Engine, Joiner
from rib.execute.runtime import RayRuntime

LOOPBACK = "127.0.0.1"

REACH_SECONDS = 10.0
"""Seconds for the address of a cluster to answer; Ray itself would try for minutes."""


class RayEngine(Engine):
    """Starts joiners as tasks of Ray.

    A cluster that it starts itself listens on the loopback interface, requires a token (Ray 2.52 and later) and has no
    dashboard, unless the runtime file says otherwise.

    Args:
        runtime: address of the cluster, and resources per joiner.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(self, runtime: RayRuntime) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends no usage reports
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # a task without GPUs sees none
        if runtime.on_loopback:  # Ray reads it at import; without it, Ray takes 127.0.0.1 as the address of the machine
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        if "ray" not in sys.modules:  # Ray keeps what it read at import
            if runtime.address:  # an address that does not answer takes 40 s per try, and Ray tries 20 times
                os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")
            else:
                os.environ.setdefault("RAY_AUTH_MODE", "token")
        try:
            import ray
        except ImportError:
            raise UserError(
                "the executor ray needs the package ray", remedy="pip install 'rib-benchmark[ray]'"
            ) from None
        self._ray, self._runtime, self._aside = ray, runtime, ExitStack()

    def __enter__(self) -> RayEngine:
        """Connect to the cluster or start one.

        Raises:
            UserError: it cannot be reached, has no room for a joiner, or would listen to other machines by default.
        """
        runtime = self._runtime
        own: dict[str, Any] = {
            "_node_ip_address": runtime.bind,
            "include_dashboard": runtime.dashboard,
            "dashboard_host": runtime.bind,
            "_temp_dir": runtime.temporary,
        }
        logging.getLogger("ray").setLevel(logging.ERROR)
        _require_answer(runtime.where)
        if not runtime.address and os.environ.get("RAY_AUTH_MODE", "token").lower() == "token":
            keep_token_private()  # also if ray was imported before: newer versions then require a token by themselves
        self._aside.enter_context(redirect_stdout(sys.stderr))  # Ray prints the state of nodes at any log level
        try:
            self._ray.init(
                address=runtime.address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": runtime.environment} if runtime.environment else None,
                **({} if runtime.address else own),
            )
            self._require_loopback()
            self._require_place()
        except BaseException as error:
            self.__exit__()
            if isinstance(error, UserError) or not isinstance(error, Exception):
                raise
            raise _unreachable(error) from None  # Ray raises a plain Exception if a node takes too long to start
        return self

    def __exit__(self, *error: object) -> None:
        self._ray.shutdown()
        self._aside.close()

    def _require_loopback(self) -> None:
        """Check that a cluster started here listens only on its configured address."""
        where = {node["NodeManagerAddress"] for node in self._ray.nodes()}
        if not self._runtime.address and where != {self._runtime.bind}:
            raise UserError(
                "the cluster that Ray started would listen to other machines",
                got=", ".join(sorted(where)),
                remedy="set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before ray is imported, or allow it by [ray] bind",
            )

    def _require_place(self) -> None:
        """Check that a cluster that was started here, which never grows, has room for a joiner. In others, joiners
        can wait."""
        if self._runtime.address or self._places():
            return
        has = self._ray.cluster_resources()
        raise UserError(
            "this machine has no room for a joiner",
            got=f"{self._runtime.cpus:g} cores and {self._gpus():g} GPUs per joiner",
            valid=f"at most {has.get('CPU', 0):g} cores and {has.get('GPU', 0):g} GPUs; a step is never split",
            remedy="ask for less in the runtime file, or name a larger cluster by [ray] address",
        )

    def size(self) -> int:
        """The number of joiners that the cluster's GPUs, or its cores, can run."""
        return max(1, self._places())

    def _places(self) -> int:
        """The number of joiners that fit on the present nodes."""
        asked = {"CPU": self._runtime.cpus, "GPU": self._gpus()}
        there = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return sum(min(_times(node.get(kind, 0), part) for kind, part in asked.items() if part) for node in there)

    def _gpus(self) -> float:
        if self._runtime.gpus is not None:
            return self._runtime.gpus
        return 1.0 if self._ray.cluster_resources().get("GPU", 0) else 0.0

    def start(self, joiners: Sequence[Joiner]) -> list[Any]:
        """Start one task per joiner. Ray does not retry tasks: the fleet replaces a task that it knows to be dead."""
        task = self._ray.remote(num_cpus=self._runtime.cpus, num_gpus=self._gpus(), max_retries=0)(_join)
        return [task.remote(joiner) for joiner in joiners]

    def ended(self, handle: Any) -> str | None:
        """Ask Ray how a joiner ended."""
        done, _ = self._ray.wait([handle], timeout=0)
        if not done:
            return None
        try:
            self._ray.get(handle)
        except self._ray.exceptions.RayError as error:
            return _told(error)
        return ""

    def stop(self, handle: Any) -> None:
        """Cancel a task."""
        with suppress(Exception):
            self._ray.cancel(handle, force=True)


def _join(joiner: Joiner) -> None:
    joiner()


def _times(there: float, part: float) -> int:
    """How many times a part fits into a total, at Ray's resolution of a ten-thousandth."""
    return int(round(1e4 * there) // round(1e4 * part))


def _told(error: Exception) -> str:
    """Summarise the error of a task: the last line of an error in the task, or the first line for a lost task."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if hasattr(error, "traceback_str") else lines[0]).strip() if lines else type(error).__name__


def _unreachable(error: Exception) -> UserError:
    return UserError(
        "Ray cannot be reached", got=error, valid="ray.address: HOST:PORT, 'auto', or none to start one here"
    )


def _require_answer(address: str | None) -> None:
    """Check that something answers at HOST:PORT."""
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(ConnectionError(f"{address}: {error}")) from None


def keep_token_private() -> None:
    """Create a token file that only its owner can read; Ray would make it readable for all users of the machine.

    Ray reads ~/.ray/auth_token and keeps an existing one.

    Raises:
        UserError: the file cannot be written, or its permissions cannot be changed.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return  # the user's own; Ray takes an empty variable for none
    try:
        path = Path.home() / ".ray" / "auth_token"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(path.parent.stat().st_mode & ~0o022)  # others could replace the file
        with (
            suppress(FileExistsError),
            os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as new,
        ):
            new.write(secrets.token_hex(32))
        path.chmod(0o600)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        raise UserError(
            "the token of the Ray cluster cannot be made private",
            got=error,
            remedy="set HOME to a folder of yours, or RAY_AUTH_TOKEN_PATH to a file of yours with permissions 0600",
        ) from None
