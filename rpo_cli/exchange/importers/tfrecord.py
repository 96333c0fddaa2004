"""TFRecord files of tf.train.Example, read without TensorFlow, every checksum checked.

A record is its length (8 bytes, little endian), the masked CRC-32C of these 8 bytes, the data, and the
masked CRC-32C of the data. Source: https://www.tensorflow.org/tutorials/load_data/tfrecord and the
protocol buffers of tensorflow/core/example.
"""

import struct
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from rpo_cli.errors import RpoError
from rpo_cli.exchange.places import Place

MAX_RECORD = 64 * 2**20
POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
MASK = 0xA282EAD8
STREAM = 64  # bytes that one lane of the vectorised checksum takes
Words = NDArray[np.uint32]
Value = list[bytes] | list[float] | list[int]


def records(path: Place) -> Iterator[bytes]:
    """The data of every record.

    Raises:
        RpoError: the file breaks off, or a checksum is wrong.
    """
    with path.open("rb") as file:
        number = 0
        while head := file.read(12):
            length = _checked_length(path, number, head)
            body = file.read(length + 4)
            if len(body) < length + 4:
                raise _broken(path, number, "breaks off")
            data = body[:length]
            if masked(crc32c(data)) != struct.unpack("<I", body[length:])[0]:
                raise _broken(path, number, "the checksum of its data is wrong")
            yield data
            number += 1


def _checked_length(path: Place, number: int, head: bytes) -> int:
    if len(head) < 12:
        raise _broken(path, number, "breaks off")
    length, check = struct.unpack("<QI", head)
    if masked(crc32c(head[:8])) != check:
        raise _broken(path, number, "the checksum of its length is wrong, or this is no TFRecord file")
    if length > MAX_RECORD:
        raise _broken(path, number, f"{length:,} bytes, more than {MAX_RECORD:,}")
    return int(length)


def _broken(path: Place, number: int, why: str) -> RpoError:
    hint = "download it again; a file of some 130 bytes is a Git LFS pointer: git lfs pull"
    return RpoError(f"{path}: record {number}: {why}", hint)


def masked(check: int) -> int:
    """A checksum as TFRecord stores it: rotated right by 15 bits, plus a constant."""
    return (((check >> 15) | (check << 17)) + MASK) & 0xFFFFFFFF


@cache
def _table() -> Words:
    """The checksum of each single byte."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        odd = np.where(values & np.uint32(1), np.uint32(POLYNOMIAL), np.uint32(0))
        values = (values >> np.uint32(1)) ^ odd
    return values


@cache
def _shift(power: int) -> Words:
    """What 2**power zero bytes make of each of the 32 bits of a checksum: a linear map over GF(2)."""
    if power == 0:
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        return _table()[bits & 0xFF] ^ (bits >> 8)
    half = _shift(power - 1)
    return _apply(half, half)


def _apply(columns: Words, values: Words) -> Words:
    result = np.zeros_like(values)
    for bit in range(32):
        result ^= np.where((values >> np.uint32(bit)) & 1, columns[bit], np.uint32(0))
    return result


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), in [0, 2**32): many lanes of 64 bytes side by side, then joined two by two.

    The start value of all ones is the same as inverting the first four bytes; zeros in front of the data
    then change nothing, so the lanes may be filled up there. Source: RFC 3720, appendix B.4.
    """
    padded = np.zeros(-(-max(len(data), 4) // STREAM) * STREAM, dtype=np.uint8)
    start = len(padded) - len(data)
    padded[start:] = np.frombuffer(data, dtype=np.uint8)
    if len(data) < 4:
        return _short(data)
    padded[start : start + 4] ^= 0xFF
    lanes = padded.reshape(-1, STREAM).astype(np.uint32)
    checks: Words = np.zeros(len(lanes), dtype=np.uint32)
    for column in lanes.T:
        checks = _table()[(checks ^ column) & 0xFF] ^ (checks >> 8)
    power = STREAM.bit_length() - 1
    while len(checks) > 1:
        if len(checks) % 2:
            checks = np.concatenate([np.zeros(1, dtype=np.uint32), checks])
        checks = _apply(_shift(power), checks[0::2]) ^ checks[1::2]
        power += 1
    return int(checks[0]) ^ 0xFFFFFFFF


def _short(data: bytes) -> int:
    check = 0xFFFFFFFF
    for byte in data:
        check = int(_table()[(check ^ byte) & 0xFF]) ^ (check >> 8)
    return check ^ 0xFFFFFFFF


# --- tf.train.Example ----------------------------------------------------------------------------------


def example(data: bytes) -> dict[str, Value]:
    """Feature name → its values.

    Raises:
        ValueError: the bytes are no tf.train.Example.
    """
    found: dict[str, Value] = {}
    for features in _messages(data, 1):
        for entry in _messages(features, 1):
            parts = dict(_fields(entry))
            name, value = parts.get(1, b""), parts.get(2, b"")
            if not isinstance(name, bytes) or not isinstance(value, bytes):
                raise ValueError("a feature without a name")
            found[name.decode("utf-8", "replace")] = _value(value)
    return found


def _value(data: bytes) -> Value:
    for kind, content in _fields(data):
        if not isinstance(content, bytes):
            raise ValueError("a feature that is no list")
        items = [item for number, item in _fields(content) if number == 1]
        if kind == 1:
            return [item for item in items if isinstance(item, bytes)]
        if kind == 2:
            packed = b"".join(item for item in items if isinstance(item, bytes))
            return list(struct.unpack(f"<{len(packed) // 4}f", packed))
        return [
            number for item in items for number in ([item] if isinstance(item, int) else _varints(item))
        ]
    return []


def _messages(data: bytes, number: int) -> Iterator[bytes]:
    for found, content in _fields(data):
        if found == number and isinstance(content, bytes):
            yield content


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(field number, content) of a protocol buffer; a 32-bit value comes as its bytes."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(data, place)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, place = _varint(data, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + size > len(data):
            raise ValueError("a field breaks off")
        yield tag >> 3, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("a number breaks off")
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    raise ValueError("a number of more than ten bytes")


def _varints(data: bytes) -> Iterator[int]:
    place = 0
    while place < len(data):
        value, place = _varint(data, place)
        yield value
