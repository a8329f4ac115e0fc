"""Server: the fork server goes on where who asked it for a process was killed while asking.

Imported by that process alone. Python's own ends then, which does no harm where it serves one driver only.
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
        raise OSError(errno.ECONNABORTED, "killed while asking") from error  # for which it goes on


reduction.recvfds = _received
