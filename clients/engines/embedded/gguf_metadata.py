"""The metadata at the head of a GGUF file: vocabulary, merges, chat template and what else its maker wrote there.

The format is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3. The `gguf`
package reads it as well, as arrays on the file, one object for each token: that took 2 of the 7 seconds of a start.
"""

import mmap
import struct
from pathlib import Path
from typing import Any

#: The format's number of a type to its code for :mod:`struct`: integers from 8 to 32 bits, float32, bool; 64 bits.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Reads all metadata of the file: numbers, booleans, strings, and lists of them, by key.

    Raises:
        ValueError: it is no GGUF file of these versions, it is cut, or a text in it is no UTF-8.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _read(data)
        except struct.error as error:
            raise ValueError(f"it ends in the middle of its metadata: {error}") from error


def _read(data: mmap.mmap) -> dict[str, Any]:
    magic, version, _tensors, fields = struct.unpack_from("<4sIQQ", data)
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError(f"it begins with {magic!r} and version {version}, where b'GGUF' and version 2 or 3 are read")
    at = struct.calcsize("<4sIQQ")

    def number(code: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from(f"<{code}", data, at)
        at += struct.calcsize(f"<{code}")
        return value

    def text() -> str:
        nonlocal at
        size = number("Q")
        if at + size > len(data):
            raise ValueError(f"it ends in the middle of its metadata: a text of {size} bytes")
        at += size
        return data[at - size : at].decode()

    def value(kind: int) -> Any:
        nonlocal at
        if kind == _STRING:
            return text()
        if kind != _ARRAY:
            return number(_code(kind))
        item, count = number("I"), number("Q")
        if item == _ARRAY:
            raise ValueError("it has lists within lists, which no model's metadata has")
        if count > len(data) - at:  # each has a byte at least: nothing is allotted for what cannot be there
            raise ValueError(f"it ends in the middle of its metadata: a list of {count}")
        if item in _NUMBERS:
            layout = f"<{count}{_NUMBERS[item]}"
            items = list(struct.unpack_from(layout, data, at))
            at += struct.calcsize(layout)
            return items
        return [value(item) for _ in range(count)]

    return {text(): value(number("I")) for _ in range(fields)}


def _code(kind: int) -> str:
    if kind not in _NUMBERS:
        raise ValueError(f"it has a value of type {kind}, which the format does not know")
    return _NUMBERS[kind]
