"""Bytes on a connection, as no client library would send them."""

import re
import socket
import time
from urllib.parse import urlsplit


def raw(url: str, *parts: bytes, pause: float = 0.0, wait: float = 5.0, silence: float = 0.3) -> bytes:
    """Sends bytes as they are, and returns all that comes until the connection is closed or silent for a moment.

    Args:
        url: of the server.
        parts: what is sent, each at once.
        pause: seconds after each part.
        wait: seconds that the first answer may take.
        silence: seconds without a byte after which nothing more is expected.
    """
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=wait) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:  # it was cut off
                break
            time.sleep(pause)
        return rest_of(connection, silence)


def rest_of(connection: socket.socket, silence: float = 0.3) -> bytes:
    """What comes on a connection until it is closed or silent for a moment."""
    came = b""
    try:
        while piece := connection.recv(65536):
            came += piece
            connection.settimeout(silence)
    except (TimeoutError, ConnectionResetError):
        pass
    return came


def statuses(came: bytes) -> list[int]:
    """Of the answers in it."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", came)]
