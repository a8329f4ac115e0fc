"""Compiled: a net whose calls go through torch.compile for a while."""

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
    """Compile a net's calls within; its parameters, and their names, stay as they are.

    Every batch size is compiled by itself. What an earlier net has left in the process is forgotten first: beyond a
    number of nets of one class torch would compile no more, and results would depend on what was done before.

    Args:
        net: called as a whole; its submodules called alone are not compiled.
        mode: of torch.compile; None does nothing.

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
