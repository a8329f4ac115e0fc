"""Server: keeps the fork server alive if a driver is killed while requesting a process.

Only that process imports this module. Python's own fork server exits in this case, which is harmless if it serves a
single driver.
"""

from __future__ import annotations

import errno
import socket
from multiprocessing import reduction

_receive = reduction.recvfds


def _received(sock: socket.socket, size: int) -> list[int]:
    try:
        return _receive(sock, size)
    except EOFError as error:
        raise OSError(errno.ECONNABORTED, "killed while asking") from error  # an error after which it continues


reduction.recvfds = _received
