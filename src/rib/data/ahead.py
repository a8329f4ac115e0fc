"""Read-ahead: inputs are read and decoded while the previous ones are written or used."""

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
"""Number of reads in progress at a time."""


def pieces(rows: Rows, size: int) -> list[Rows]:
    """Rows int64 (n,), divided into pieces of at most `size` rows."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def read_ahead(decoded: Decoded, wanted: Iterable[Rows]) -> Iterator[tuple[Rows, Inputs]]:
    """Decode groups of rows in the background and yield each group with its inputs, (n, *view.shape).

    Args:
        decoded: the part and its view.
        wanted: the groups of rows, in the order in which they are yielded.

    Raises:
        UserError: an image cannot be read; the message names it.
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
    """Decode a part into memory chunk by chunk; the next chunk is decoded while the caller uses the current one.

    Nothing is written. At most two chunks are in memory if the caller releases each chunk before it requests the next,
    plus three times `data.chunk` images that are being decoded.

    Args:
        decoded: the part and its view.
        rows_per_chunk: examples per chunk; the last may have fewer. With a multiple of the batch size, the batches are
            the same as those of the whole part.
        first: the first row to decode.

    Yields:
        Chunks that together contain every example from `first` on, once and in the order of the part.

    Raises:
        UserError: an image cannot be read; the message names it.
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
    """Copy a pack into memory in the same chunks as `chunks` yields. Each example is read from the disk once."""

    def copy(places: Rows) -> Examples:
        chosen = examples.take(places)
        return Examples(examples.batch(places), chosen.index, chosen.rows, first=int(chosen.rows[0]))

    return _one_ahead(copy, pieces(np.arange(first, len(examples)), rows_per_chunk), threading.Event())


def _one_ahead(
    make: Callable[[Rows], Examples], wanted: Iterable[Rows], stopped: threading.Event
) -> Iterator[Examples]:
    """Yield the chunks of some groups of rows and make one chunk ahead.

    Sets `stopped` when the caller stops or all are done.
    """
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
    """The examples of a part, which are decoded whenever they are read. Reading raises the errors of `DataSet.read`."""
    read, part, view, index = decoded.data.read, decoded.part, decoded.view, decoded.index
    return Examples(lambda rows: read(part, rows.tolist(), view), index, np.arange(len(index)))


def chunk_rows(view: View, batch_size: int, memory: int = 2**31) -> int:
    """Number of examples per chunk such that two chunks fit into `memory`: a multiple of the batch size, at least one
    batch.

    Args:
        view: gives the size of an example.
        batch_size: examples per batch.
        memory: bytes.
    """
    most = memory // (2 * view.bytes)
    return max(1, most // batch_size) * batch_size
