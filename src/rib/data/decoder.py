"""The child process that decodes files for other processes, within the limits of `data/apart.py`."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable
from typing import Any

from PIL import UnidentifiedImageError

from rib.data.apart import Answer, receive, send
from rib.data.images import decode_here, form_here
from rib.data.modes import UnclearError, is_deep_here


def _pixels(content: bytes) -> Answer:
    pixels = decode_here(content)
    return {"shape": pixels.shape}, pixels.tobytes()


QUESTIONS: dict[str, Callable[[bytes], Answer]] = {
    "pixels": _pixels,
    "form": lambda content: ({"form": form_here(content)}, b""),
    "deep": lambda content: ({"deep": is_deep_here(content)}, b""),
}


def answer(question: str, content: bytes, memory: int) -> Answer:
    """The facts; or, after an error, its type in `error` and its text in `message`."""
    try:
        return QUESTIONS[question](content)
    except UnidentifiedImageError:
        return {"error": "format", "message": ""}, b""
    except UnclearError as error:
        return {"error": "unclear", "message": str(error)}, b""
    except MemoryError:
        return {"error": "limit", "message": f"it takes more than {memory >> 20:,} MiB of memory to decode"}, b""
    except Exception as error:  # hostile bytes may make decoders raise any error
        return {"error": "broken", "message": str(error).strip() or type(error).__name__}, b""


def main() -> None:
    """Answer the questions on standard input until it ends."""
    _limit("RLIMIT_CORE", 0)
    while (asked := receive(sys.stdin.buffer)) is not None:
        facts, content = asked
        _limit("RLIMIT_AS", int(facts["memory"]))
        _limit("RLIMIT_CPU", math.ceil(time.process_time()) + int(facts["seconds"]))
        found, data = answer(facts["question"], content, facts["memory"])
        send(sys.stdout.buffer, found, data)


def _limit(what: str, most: int) -> None:
    """Set a limit of this process, if the system supports it."""
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        resource_module: Any = resource
        which = getattr(resource_module, what)
        hard = resource.getrlimit(which)[1]
        resource.setrlimit(which, (most if hard < 0 else min(most, hard), hard))


if __name__ == "__main__":
    main()
