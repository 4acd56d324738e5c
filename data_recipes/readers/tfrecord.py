"""TFRecord files of tf.train.Example messages, and protocol buffers by their wire format.

    length (8 bytes), its checksum (4), message, its checksum (4); the whole file may be gzipped

https://www.tensorflow.org/tutorials/load_data/tfrecord, https://protobuf.dev/programming-guides/encoding/. Checksums are not looked
at: gzip has its own. Messages are read by field number, so neither TensorFlow nor compiled .proto files are needed.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LARGEST = 512 << 20
"""Bytes of one message at most."""
GZIP = b"\x1f\x8b"


def messages(path: Path) -> Iterator[bytes]:
    """The messages of a file. Raises ValueError where it is cut off or no TFRecord file."""
    with path.open("rb") as plain:
        packed = plain.read(2) == GZIP
    with gzip.open(path) if packed else path.open("rb") as file:
        try:
            while head := file.read(12):
                (length,) = struct.unpack("<Q", head[:8].ljust(8, b"\xff"))
                if length > LARGEST:
                    raise ValueError(f"expected a message of at most {LARGEST} bytes, got {length}")
                message = file.read(length)
                if len(message) < length or len(file.read(4)) < 4:
                    raise ValueError("the file ends inside a message")
                yield message
        except (EOFError, zlib.error, OSError) as error:
            raise ValueError(f"the file cannot be unpacked: {error}") from None


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of a message's fields in order: whole numbers, or bytes (texts, messages, packed lists); numbers of fixed size
    as their bytes. Raises ValueError for what is no message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"expected a field of a known kind, got {kind}")
        if at + size > len(message):
            raise ValueError("the message ends inside a field")
        yield key >> 3, message[at : at + size]
        at += size


def example(message: bytes) -> dict[str, list[Any]]:
    """Features of a tf.train.Example by name: lists of bytes, floats or whole numbers. Raises ValueError for what is none."""
    found: dict[str, list[Any]] = {}
    for _, features in _of(message, 1):
        for _, entry in _of(features, 1):
            parts = dict(_of(entry, 1, 2))
            found[parts.get(1, b"").decode("utf-8", "replace")] = _feature(parts.get(2, b""))
    return found


def _feature(feature: bytes) -> list[Any]:
    for kind, values in _of(feature, 1, 2, 3):
        if kind == 1:
            return [value for _, value in _of(values, 1)]
        packed = b"".join(v if isinstance(v, bytes) else _as_varint(v) for n, v in fields(values) if n == 1)
        if kind == 2:
            return list(struct.unpack(f"<{len(packed) // 4}f", packed[: len(packed) // 4 * 4]))
        numbers, at = [], 0
        while at < len(packed):
            value, at = _varint(packed, at)
            numbers.append(value - (1 << 64) if value >> 63 else value)
        return numbers
    return []


def _of(message: bytes, *wanted: int) -> Iterator[tuple[int, bytes]]:
    """The fields of these numbers, which hold bytes."""
    for number, value in fields(message):
        if number in wanted:
            if not isinstance(value, bytes):
                raise ValueError(f"field {number}: expected bytes")
            yield number, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """(number, where it ends)."""
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise ValueError("the message ends inside a number")


def _as_varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
