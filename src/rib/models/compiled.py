"""Temporary compilation of a net's calls with torch.compile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from rib.errors import StepError
from rib.recipe import Compile

BACKEND = "inductor"
"""The backend of torch.compile."""


@contextmanager
def compiled(net: nn.Module, mode: Compile | None) -> Iterator[None]:
    """Compile a net's calls inside a `with` block. Parameters and their names do not change.

    Every batch size is compiled separately. Compilations of earlier nets are reset first, because torch compiles only a
    limited number of nets of one class, so results would depend on earlier work in the process.

    Args:
        net: is compiled as a whole; calls of its submodules alone are not compiled.
        mode: mode of torch.compile; None does nothing.

    Raises:
        StepError: the net cannot be compiled on this machine.
    """
    if mode is None:
        yield
        return
    from torch import _dynamo

    _dynamo.reset()
    net.compile(backend=BACKEND, dynamic=False, **({"mode": mode} if BACKEND == "inductor" else {}))
    try:
        yield
    except _dynamo.exc.TorchDynamoException as error:
        said = " ".join(filter(None, str(error).splitlines()[:2])) or type(error).__name__
        raise StepError(f"the net cannot be compiled here ({said}); leave `compile` out of the recipe") from error
    finally:
        net._compiled_call_impl = None
