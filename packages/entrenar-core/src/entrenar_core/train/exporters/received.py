"""What a socket receives until a moment; its own time-out begins anew with every byte."""

import io
import socket
import time
from typing import Any

__all__ = ["Received", "seconds_left"]


class Received(io.RawIOBase):
    """What `received` gets until `until`, of the monotonic clock; then reading is a
    TimeoutError."""

    def __init__(self, received: socket.socket, until: float):
        self._socket, self._until = received, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(seconds_left(self._until))
        return self._socket.recv_into(buffer)

    def makefile(self, mode: str) -> io.BufferedReader:
        """What is asked of a socket by those that read from one."""
        assert mode == "rb"
        return io.BufferedReader(self)


def seconds_left(until: float) -> float:
    """Until a moment of the monotonic clock. Raises TimeoutError when it is past."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
