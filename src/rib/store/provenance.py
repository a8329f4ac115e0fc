"""Provenance: the versions, commit and machine that a record states."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rib.identity import KEY_VERSION


@cache
def made_by() -> dict[str, Any]:
    """Versions, commit and machine kind of this process, for records."""
    return {
        "rib": version("rib-benchmark"),
        "key_version": KEY_VERSION,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "timm", "numpy")},
        "machine": f"{platform.system()} {platform.machine()}",
        **_commit(),
    }


@cache
def processor(device: str) -> str:
    """The processor of a device: a GPU's or a CPU's name, and the CPU instructions that torch uses."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    known = Path("/proc/cpuinfo")
    lines = known.read_text("utf-8", "replace").splitlines() if known.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name or platform.processor()} {torch.backends.cpu.get_cpu_capability()}".strip()


def rib_version() -> str:
    """Version and commit of RIB."""
    return f"{made_by()['rib']} {made_by().get('commit', '')}".strip()


def _commit() -> dict[str, Any]:
    """Commit of RIB's checkout, if RIB runs from one."""
    here = Path(__file__).parents[1]
    if not (here.parents[1] / ".git").exists():
        return {}

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "--no-optional-locks", "-C", str(here), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", str(here)))}
    except (OSError, subprocess.CalledProcessError):
        return {}
