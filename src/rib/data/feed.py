"""Brings batches of examples to the device. Every path yields the same batches.

If a GPU has enough free memory, a pack is copied to it once and stays there. Otherwise each batch is copied through
pinned memory while the device computes on the previous batch. A CPU reads plain memory. Data without a pack are decoded
one batch ahead.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rib.arrays import Rows
from rib.data.examples import Examples
from rib.data.views import Inputs

Road = Literal["plain", "resident", "pinned"]
Room = Callable[[torch.device], tuple[int, int]]
"""Free and total bytes of a device."""

RESERVE = 0.25
"""Share of a device's memory that packs leave free for models and activations."""

PIECE = 2**26
"""Bytes per copy when a whole pack is copied."""


@dataclass
class Shelf:
    """The packs on devices. Each stays as long as the host uses its images.

    Attributes:
        room: returns the free and total memory of a device in bytes.
        closed: whether it accepts no more packs.
    """

    room: Room = torch.cuda.mem_get_info
    _kept: dict[tuple[int, torch.device], Tensor] = field(default_factory=dict)
    closed: bool = False

    def road(self, images: Inputs, device: torch.device) -> Road:
        """The fastest way to bring batches of these images to a device."""
        if device.type != "cuda":
            return "plain"
        if (id(images), device) in self._kept:
            return "resident"
        if self.closed:
            return "pinned"
        free, total = self.room(device)
        return "resident" if images.nbytes <= free - RESERVE * total else "pinned"

    def clear(self) -> None:
        """Free all packs and accept no more, because the memory is needed for something else."""
        self.closed = True
        self._kept.clear()

    def on(self, images: Inputs, device: torch.device) -> Tensor:
        """All inputs on a device: (M, *view.shape)."""
        place = (id(images), device)
        if place not in self._kept:
            self._kept[place] = _whole(images, device)
            weakref.finalize(images, self._kept.pop, place, None)
        return self._kept[place]


SHELF = Shelf()
"""The packs on devices of this process."""


def fed(
    examples: Examples, wanted: Iterable[Rows | slice], device: torch.device, shelf: Shelf = SHELF
) -> Iterator[Tensor]:
    """Yield batches of examples on a device: (n, *view.shape). The caller must not change them.

    Args:
        examples: the examples.
        wanted: the examples of each batch.
        device: the device; a batch belongs to the CUDA stream that is current when it is requested.
        shelf: the packs on devices.

    Raises:
        UserError: an image without a pack cannot be read.
    """
    images = examples.images
    if callable(images):
        return (torch.from_numpy(inputs).to(device) for inputs in _decoded(examples, wanted))
    road = shelf.road(images, device)
    if road == "plain":
        return (torch.from_numpy(examples.batch(chosen)).to(device) for chosen in wanted)
    places = (examples.places(chosen) for chosen in wanted)
    if road == "pinned":
        return _sent(images, places, device)
    whole = shelf.on(images, device)
    return (whole.index_select(0, placed(rows, device)) for rows in places)


def placed(rows: Rows, device: torch.device) -> Tensor:
    """Row numbers on a device, int64 (n,), copied asynchronously."""
    host = torch.from_numpy(rows)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)


def _decoded(examples: Examples, wanted: Iterable[Rows | slice]) -> Iterator[Inputs]:
    """Yield batches; the next one is decoded while the caller uses the current one."""
    ahead: Future[Inputs] | None = None
    with ThreadPoolExecutor(1) as pool:
        for chosen in wanted:
            under_way, ahead = ahead, pool.submit(examples.batch, chosen)
            if under_way is not None:
                yield under_way.result()
        if ahead is not None:
            yield ahead.result()


@torch.inference_mode(False)
def _whole(images: Inputs, device: torch.device) -> Tensor:
    whole = torch.empty(images.shape, dtype=_dtype(images), device=device)
    pieces = np.array_split(np.arange(len(images)), max(1, images.nbytes // PIECE))
    for rows, copied in zip(pieces, _sent(images, pieces, device), strict=True):
        whole[rows[0] : rows[-1] + 1] = copied
    return whole


def _sent(images: Inputs, wanted: Iterable[Rows], device: torch.device) -> Iterator[Tensor]:
    """Yield batches; the next one is copied to the device while it computes on the current one."""
    lane = _Lane(images, device)
    ahead: tuple[Tensor, torch.cuda.Event | None] | None = None
    for rows in wanted:
        under_way, ahead = ahead, lane.send(rows)
        if under_way is not None:
            yield lane.receive(*under_way)
    if ahead is not None:
        yield lane.receive(*ahead)


def _dtype(inputs: Inputs) -> torch.dtype:
    return torch.from_numpy(np.empty(0, inputs.dtype)).dtype


class _Lane:
    """Two alternating buffers of pinned memory: one is filled while the other is copied to the device.

    Args:
        images: the images of the batches.
        device: the target. For a CPU the buffers are plain memory without a stream.
    """

    def __init__(self, images: Inputs, device: torch.device) -> None:
        self._images, self._device = images, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._buffers: list[Tensor] = [torch.empty(0, dtype=_dtype(images))] * 2
        self._copied: list[torch.cuda.Event | None] = [None, None]
        self._turn = 0

    def send(self, rows: Rows) -> tuple[Tensor, torch.cuda.Event | None]:
        """Start to copy a batch to the device, and return it with the event of its arrival."""
        self._turn = 1 - self._turn
        if (copied := self._copied[self._turn]) is not None:
            copied.synchronize()
        host = self._buffer(len(rows))
        np.take(self._images, rows, axis=0, out=host.numpy(), mode="clip")  # mode "raise" would make one more copy
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            batch = host.to(self._device, non_blocking=True, copy=True)
            self._copied[self._turn] = self._stream.record_event() if self._stream else None
        return batch, self._copied[self._turn]

    def receive(self, batch: Tensor, copied: torch.cuda.Event | None) -> Tensor:
        """Make later work on the device wait for the batch."""
        if copied is not None:
            using = torch.cuda.current_stream(self._device)
            using.wait_event(copied)
            batch.record_stream(using)
        return batch

    def _buffer(self, count: int) -> Tensor:
        if len(self._buffers[self._turn]) < count:
            shape = (count, *self._images.shape[1:])
            self._buffers[self._turn] = torch.empty(
                shape, dtype=_dtype(self._images), pin_memory=self._stream is not None
            )
        return self._buffers[self._turn][:count]
