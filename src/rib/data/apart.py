"""Decoding in a child process, with limits, of image files whose decoding time or memory has no known bound.

A decoder in native code cannot be interrupted, so a limit on its time or memory needs a process that can be killed.
Each calling thread has its own child process, which starts when first needed and is kept for the next file.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

SECONDS = 300
"""Processor time that one file may take. It does not depend on what else the machine does."""

MEMORY = 4 << 30
"""Maximum address space of a decoding process, in bytes."""

XCPU = getattr(signal, "SIGXCPU", 0)
"""The signal that ends a process which has used up its processor time."""

KILL = getattr(signal, "SIGKILL", 9)
"""The signal by which the kernel ends a process if memory runs out."""

Answer = tuple[dict[str, Any], bytes]


class LimitError(ValueError):
    """A file whose decoding hit a limit or crashed the decoder."""


_idle: list[subprocess.Popen[bytes]] = []


def _forget() -> None:
    """Drop the parent's child processes after a fork, without ending them."""
    for process in _idle:
        process.returncode = 0
    _idle.clear()


def _end(processes: list[subprocess.Popen[bytes]] = _idle) -> int:
    """End processes and return the exit code of the last."""
    code = 0
    while processes:
        process = processes.pop()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # flushing unsent data to a process that has exited
                stream.close() if stream else None
        code = process.wait()
    return code


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def ask(question: str, content: bytes) -> Answer:
    """The answer of `data/decoder.py` to a question about a file, from a child process.

    Args:
        question: one of `decoder.QUESTIONS`.
        content: the file's bytes.

    Returns:
        Facts, and the bytes that belong to them.

    Raises:
        LimitError: decoding took more than `SECONDS` or `MEMORY`, or its decoder crashed.
    """
    found = _ask(question, content)
    if isinstance(found, int) and found != -XCPU:  # it may have been killed from outside, as when memory runs out
        found = _ask(question, content)
    if not isinstance(found, int):
        return found
    if found == -XCPU:
        raise LimitError(f"it takes more than {SECONDS} s of processor time to decode")
    how = f"signal {-found}" if found < 0 else f"exit code {found}"
    hint = ": out of memory? try fewer workers" if found == -KILL else ""
    raise LimitError(f"its decoder crashed ({how}){hint}")


def _ask(question: str, content: bytes) -> Answer | int:
    """The answer, or the exit code of a process that ended without an answer."""
    process = _borrowed()
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        send(process.stdin, {"question": question, "seconds": SECONDS, "memory": MEMORY}, content)
        answer = receive(process.stdout)
    except OSError:  # broken pipe: the process has ended
        answer = None
    except BaseException:
        _end([process])
        raise
    if answer is None:
        return _end([process])
    _idle.append(process)
    return answer


def send(stream: IO[bytes], facts: dict[str, Any], content: bytes | memoryview) -> None:
    """Write one message: a line of facts, then bytes.

    Raises:
        OSError: the reader has closed the stream.
    """
    stream.write(json.dumps(facts | {"bytes": len(content)}).encode() + b"\n")
    stream.write(content)
    stream.flush()


def receive(stream: IO[bytes]) -> Answer | None:
    """Read one message; None if the stream has ended."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    facts: dict[str, Any] = json.loads(line)
    content = stream.read(facts["bytes"])
    return (facts, content) if len(content) == facts["bytes"] else None


def _borrowed() -> subprocess.Popen[bytes]:
    while _idle:
        process = _idle.pop()
        if process.poll() is None:
            return process
        _end([process])
    package = str(Path(__file__).parents[2])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "rib.data.decoder"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
    )
