"""Reading ahead: inputs are read and decoded while those before are written or used."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from rib.arrays import Rows
from rib.data.decoded import Decoded
from rib.data.examples import Examples
from rib.data.views import Inputs, View

AHEAD = 2
"""Pieces under way at a time: one is read while the other is decoded."""


def pieces(rows: Rows, size: int) -> list[Rows]:
    """Rows in pieces of at most `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def read_ahead(decoded: Decoded, wanted: Iterable[Rows]) -> Iterator[tuple[Rows, Inputs]]:
    """Some rows after the other with their inputs (n, *view.shape); the next are decoded meanwhile.

    Raises:
        UserError: an image cannot be read; it is named.
    """
    under_way: deque[tuple[Rows, Future[Inputs]]] = deque()
    with ThreadPoolExecutor(AHEAD) as pool:
        try:
            for rows in wanted:
                under_way.append((rows, pool.submit(decoded.data.read, decoded.part, rows.tolist(), decoded.view)))
                if len(under_way) > AHEAD:
                    done, inputs = under_way.popleft()
                    yield done, inputs.result()
            while under_way:
                done, inputs = under_way.popleft()
                yield done, inputs.result()
        finally:
            for _, inputs in under_way:
                inputs.cancel()


def chunks(decoded: Decoded, rows_per_chunk: int, first: int = 0) -> Iterator[Examples]:
    """A part in chunks that follow one another, each decoded into memory while the one before is used.

    Nothing is written. Two chunks are in memory at a time, if the one that was given last is let go of before the next
    is asked for or soon after; and three times `data.chunk` images on the way to them.

    Args:
        decoded: the part and its form.
        rows_per_chunk: examples a chunk, but for the last. A multiple of the batch size makes the batches those of the
            whole part.
        first: the row to begin with.

    Yields:
        All examples from that row on once, in the order of the part.

    Raises:
        UserError: an image cannot be read; it is named.
    """
    index, data = decoded.index, decoded.data
    order = data.reading_order(decoded.part)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    stopped = threading.Event()

    def decode(rows: Rows) -> Examples:
        inputs = decoded.view.batch(len(rows))
        wanted = pieces(rows[np.argsort(rank[rows])], data.chunk)
        for places, some in read_ahead(decoded, wanted):
            inputs[places - rows[0]] = some
            if stopped.is_set():
                break
        return Examples(inputs, index.take(rows), rows, first=int(rows[0]))

    yield from _one_ahead(decode, pieces(np.arange(first, len(index)), rows_per_chunk), stopped)


def copied(examples: Examples, rows_per_chunk: int, first: int = 0) -> Iterator[Examples]:
    """Examples of a pack in chunks as `chunks` gives them, each read from the disk once, and copied into memory."""

    def copy(places: Rows) -> Examples:
        chosen = examples.take(places)
        return Examples(examples.batch(places), chosen.index, chosen.rows, first=int(chosen.rows[0]))

    return _one_ahead(copy, pieces(np.arange(first, len(examples)), rows_per_chunk), threading.Event())


def _one_ahead(
    make: Callable[[Rows], Examples], wanted: Iterable[Rows], stopped: threading.Event
) -> Iterator[Examples]:
    """Chunks of some rows, each made while the one before is used; `stopped` is set when no more is wanted."""
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(wanted)
        ahead: deque[Future[Examples]] = deque()
        try:
            while waiting or ahead:
                if not ahead:
                    ahead.append(pool.submit(make, waiting.popleft()))
                ready = ahead.popleft().result()
                if waiting:
                    ahead.append(pool.submit(make, waiting.popleft()))
                yield ready
                del ready
        finally:
            stopped.set()


def streamed(decoded: Decoded) -> Examples:
    """The examples of a part, decoded on each read. Reading raises as `DataSet.read`."""
    read, part, view, index = decoded.data.read, decoded.part, decoded.view, decoded.index
    return Examples(lambda rows: read(part, rows.tolist(), view), index, np.arange(len(index)))


def chunk_rows(view: View, batch_size: int, memory: int = 2**31) -> int:
    """Examples a chunk, a multiple of the batch size and at least one batch, so that two take so much memory at most.

    Args:
        view: gives an example's size.
        batch_size: examples per batch.
        memory: bytes.
    """
    most = memory // (2 * view.bytes)
    return max(1, most // batch_size) * batch_size
