"""The head of a GGUF file is read as its own library reads it, and a broken one is told."""

import struct
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickertape.clients.engines.embedded.gguf_metadata import read_metadata


def test_the_real_model_is_read_as_the_library_of_the_format_reads_it(smollm2_file: Path) -> None:
    theirs = gguf.GGUFReader(str(smollm2_file)).fields
    assert read_metadata(smollm2_file) == {k: v.contents() for k, v in theirs.items() if not k.startswith("GGUF.")}


def test_every_type_of_the_format_is_read_as_the_library_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "all.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    values = {
        "uint8": 200, "int8": -100, "uint16": 60000, "int16": -30000, "uint32": 4_000_000_000, "int32": -2_000_000_000,
        "float32": 0.5, "uint64": 2**60, "int64": -(2**60), "float64": 0.1, "bool": True, "string": "naïve\n",
    }  # fmt: skip
    for kind, value in values.items():
        getattr(writer, f"add_{kind}")(kind, value)
    writer.add_array("numbers", [1, -2, 3])
    writer.add_array("texts", ["a", "", "日本"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    read = read_metadata(path)
    assert {key: read[key] for key in values} == values
    assert (read["numbers"], read["texts"]) == ([1, -2, 3], ["a", "", "日本"])


def _written(*fields: bytes) -> bytes:
    return struct.pack("<4sIQQ", b"GGUF", 3, 0, len(fields)) + b"".join(fields)


def _key(name: str, kind: int) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind)


SMALL = _written(
    _key("a", 8) + struct.pack("<Q2s", 2, b"xy"),
    _key("b", 9) + struct.pack("<IQ3I", 4, 3, 7, 8, 9),
    _key("c", 7) + b"\x01",
)


@given(st.integers(0, len(SMALL) - 1))
def test_a_cut_file_is_told_wherever_it_is_cut(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.gguf"
    path.write_bytes(SMALL[:size])
    with pytest.raises(ValueError, match=r"in the middle of its metadata|empty file"):
        read_metadata(path)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (b"PK\x03\x04" + bytes(40), "it begins with"),
        (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "version 1"),
        (_written(_key("a", 77)), "a value of type 77"),
        (_written(_key("a", 9) + struct.pack("<IQ", 8, 2**60)), f"a list of {2**60}"),
        (_written(_key("a", 8) + struct.pack("<Q", 2**60)), f"a text of {2**60} bytes"),
        (_written(_key("a", 9) + struct.pack("<IQ", 4, 2**60)), "in the middle"),
        (_written(_key("a", 8) + struct.pack("<Q2s", 2, b"\xff\xfe")), "utf-8"),
    ],
)
def test_a_broken_file_is_told_at_once(tmp_path: Path, written: bytes, text: str) -> None:
    (tmp_path / "broken.gguf").write_bytes(written)
    with pytest.raises(ValueError, match=text):
        read_metadata(tmp_path / "broken.gguf")


def test_nested_lists_do_not_exhaust_the_stack(tmp_path: Path) -> None:
    nested = _key("a", 9) + struct.pack("<IQ", 9, 1) * 100_000 + bytes(64)
    (tmp_path / "nested.gguf").write_bytes(_written(nested))
    with pytest.raises(ValueError, match="lists within lists"):
        read_metadata(tmp_path / "nested.gguf")
