"""Keys of rows as 16 bytes each: sets of millions of them, and masks over columns, by Arrow compute.

A key is 32 hex digits in a table; as text in a Python set it takes 110 bytes, here 16. Keys of any other
form stay texts. Arrow builds its hash table anew at every call, so one call is made a table, never one a
part.
"""

import binascii
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, count, pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rpo_cli.files import write_whole

WIDTH = 16  # bytes
DIGITS = 2 * WIDTH
KIND = pa.binary(WIDTH)
AT_ONCE = 10_000  # keys that are texts at a time
FEW = 16  # times as many keys are sought by halving, not by a look at all
MANY = 50_000  # keys take half a second to compute
HALVES = np.dtype([("high", ">u8"), ("low", ">u8")])
Packed: TypeAlias = pa.Array  # keys side by side: of KIND, or as texts where one is no 32 hex digits
Mask = NDArray[np.bool_]


def packed(data: bytes | bytearray) -> Packed:
    """Keys that lie side by side in a buffer."""
    return pa.FixedSizeBinaryArray.from_buffers(KIND, len(data) // WIDTH, [None, pa.py_buffer(data)])


def digests(column: pa.ChunkedArray | pa.Array) -> Packed:
    """A column of keys as tables hold them → 16 bytes each.

    Raises:
        ValueError: it holds no texts, or a key is missing.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return joined([_packed(chunk) for chunk in chunks if len(chunk)])


def _packed(chunk: pa.Array) -> Packed:
    if not pa.types.is_string(chunk.type) or chunk.null_count:
        raise ValueError("its keys are no texts")
    _, offsets, data = chunk.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    if (np.diff(ends) != DIGITS).any():
        return chunk
    text = bytes(memoryview(data)[ends[0] : ends[-1]])
    try:
        return packed(binascii.unhexlify(text)) if text == text.lower() else chunk
    except ValueError:
        return chunk


def joined(parts: Iterable[Packed]) -> Packed:
    """One after the other; of one alone nothing is copied."""
    found = [part for part in parts if len(part)]
    return found[0] if len(found) == 1 else pa.concat_arrays(_alike([packed(b""), *found]))


def _alike(arrays: Sequence[Packed]) -> Sequence[Packed]:
    """The same keys, all of them as texts where some are."""
    if all(array.type == KIND for array in arrays):
        return arrays
    return [texts(hex_of(array)) if array.type == KIND else array for array in arrays]


def first_places(keys: Packed) -> Mask | None:
    """Where a key stands for the first time; None: all are different, the usual case."""
    if keys.type == KIND:  # where halves of them are: a tenth of the memory that counting them takes
        halves = np.sort(np.frombuffer(_bytes(keys), np.uint64)[::2])
        if (halves[1:] != halves[:-1]).all():
            return None
    if pc.count_distinct(keys).as_py() == len(keys):
        return None
    places = keys.dictionary_encode().indices  # numbered as they are met
    codes = np.frombuffer(places.buffers()[1] or b"", np.int32)[places.offset : places.offset + len(places)]
    first: Mask = codes > np.concatenate([[-1], np.maximum.accumulate(codes)[:-1]])
    return first


def among(keys: Packed, others: Packed) -> Mask:
    """Which of the keys are also among the others."""
    keys, others = _alike([keys, others])
    many = len(others) > len(keys) // 4  # of few a table is made at once
    found = _sought(keys, others) if keys.type == KIND and many else None
    return _mask(pc.is_in(keys, value_set=others)) if found is None else found


def _sought(keys: Packed, others: Packed) -> Mask | None:
    """The same by sorted halves, in half the time and memory; None: two of the others begin alike."""
    halves, known = (np.frombuffer(_bytes(of), np.uint64).reshape(-1, 2) for of in (keys, others))
    order = np.argsort(known[:, 0])
    first, second = known[order, 0], known[order, 1]
    if (first[1:] == first[:-1]).any():
        return None
    order = np.argsort(halves[:, 0])  # in order they are sought five times as fast
    sought = halves[order]
    places = np.searchsorted(first, sought[:, 0])
    places[places == len(first)] = 0
    found = np.empty(len(keys), np.bool_)
    found[order] = (first[places] == sought[:, 0]) & (second[places] == sought[:, 1])
    return found


def _mask(found: pa.BooleanArray) -> Mask:
    """The bits of an array without nulls; its `to_numpy` would import pandas."""
    if not len(found):
        return np.zeros(0, np.bool_)
    bits = np.unpackbits(np.frombuffer(found.buffers()[1], np.uint8), bitorder="little")
    mask: Mask = bits[found.offset : found.offset + len(found)].astype(np.bool_)
    return mask


def as_array(mask: Mask) -> pa.BooleanArray:
    """A mask as Arrow's filters take it; `pa.array` of a numpy array would import pandas."""
    bits = pa.py_buffer(np.packbits(mask, bitorder="little").tobytes())
    return pa.BooleanArray.from_buffers(pa.bool_(), len(mask), [None, bits])


def is_equal(column: pa.ChunkedArray, text: str) -> pa.ChunkedArray:
    """Where a column of texts holds this one."""
    return pc.equal(column, texts([text])[0])


def texts(values: Iterable[str]) -> pa.StringArray:
    """Texts as an array; `pa.array` and `pa.scalar` would import pandas."""
    encoded = [value.encode() for value in values]
    ends = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum(list(map(len, encoded)), out=ends[1:])
    buffers = pa.py_buffer(ends.tobytes()), pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(len(encoded), *buffers)


def order_of(*columns: Packed) -> pa.Array:
    """Row numbers in the order of the texts of these columns, of which the first counts most."""
    if any(column.type != KIND for column in columns):
        names = [str(number) for number in range(len(columns))]
        table = pa.table([texts(hex_of(column)) for column in columns], names=names)
        return pc.sort_indices(table, sort_keys=[(name, "ascending") for name in names])
    halves = [np.frombuffer(_bytes(column), ">u8").reshape(-1, 2).astype(np.uint64) for column in columns]
    rows = np.lexsort([half[:, place] for half in reversed(halves) for place in (1, 0)])
    return pa.Int64Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows.astype(np.int64))])


def hex_of(keys: Packed) -> list[str]:
    """The keys as tables hold them."""
    if keys.type != KIND:
        return list(keys.to_pylist())
    text = binascii.hexlify(_bytes(keys)).decode()
    return [text[start : start + DIGITS] for start in range(0, len(text), DIGITS)]


def _bytes(keys: Packed) -> memoryview:
    data = keys.buffers()[1]
    if data is None:
        return memoryview(b"")
    return memoryview(data)[keys.offset * WIDTH : (keys.offset + len(keys)) * WIDTH]


def halves_of(keys: Packed) -> NDArray[np.void]:
    """Keys of 16 bytes as two numbers each, high and low, by which they lie in the order of their texts."""
    return np.frombuffer(_bytes(keys), HALVES)


class Keys(Set[str]):
    """A set of keys in an order, 16 bytes each.

    It is a set of texts to whoever asks so; with another `Keys`, `&`, `|`, `-`, `<=` and `==` make no text.
    """

    def __init__(self, array: Packed) -> None:
        """Of keys that are all different; see `distinct`."""
        self.array = array

    @classmethod
    def distinct(cls, array: Packed) -> "Keys":
        """Of any keys, each at its first place."""
        first = first_places(array)
        return cls(array if first is None else array.filter(as_array(first)))

    @classmethod
    def of(cls, keys: Iterable[str]) -> "Keys":
        """Of keys as texts, each at its first place."""
        return keys if isinstance(keys, Keys) else cls(digests(texts(dict.fromkeys(keys))))

    def sorted(self) -> "Keys":
        """In the order of their texts."""
        return Keys(self.array.take(order_of(self.array)))

    @cached_property
    def _known(self) -> frozenset[bytes | str]:
        return frozenset(self.array.to_pylist())

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        return (key if self.array.type != KIND else _digest(key)) in self._known

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), AT_ONCE):
            yield from hex_of(self.array.slice(start, AT_ONCE))

    def __len__(self) -> int:
        return len(self.array)

    @classmethod
    def _from_iterable(cls, found: Iterable[Any]) -> Set[Any]:
        return set(found)

    def __and__(self, other: Set[Any]) -> Set[Any]:
        return self.within(other) if isinstance(other, Keys) else super().__and__(other)

    def __sub__(self, other: Set[Any]) -> Set[Any]:
        return self.without(other) if isinstance(other, Keys) else super().__sub__(other)

    def __or__(self, other: Set[Any]) -> Set[Any]:
        if not isinstance(other, Keys):
            return super().__or__(other)
        return Keys(joined([self.array, other.without(self).array]))

    def __le__(self, other: Set[Any]) -> bool:
        return (
            bool(among(self.array, other.array).all()) if isinstance(other, Keys) else super().__le__(other)
        )

    @cached_property
    def digest(self) -> str:
        """What tells the set from others, whatever its order."""
        if self.array.type != KIND:
            return hashlib.sha256("\n".join(sorted(self.array.to_pylist())).encode()).hexdigest()
        halves = np.frombuffer(_bytes(self.array), np.uint64).reshape(-1, 2)  # hashes, each once
        return f"{len(self)} {np.bitwise_xor.reduce(halves, axis=0).tobytes().hex()}"

    def within(self, other: "Keys") -> "Keys":
        """Those that are among the others."""
        return Keys(self.array.filter(as_array(among(self.array, other.array))))

    def without(self, other: "Keys") -> "Keys":
        """Those that are not."""
        return Keys(self.array.filter(as_array(~among(self.array, other.array))))

    def parted(self, other: "Keys") -> "tuple[Keys, Keys]":
        """Those that are among the others, and those that are not."""
        mask = among(self.array, other.array)
        return Keys(self.array.filter(as_array(mask))), Keys(self.array.filter(as_array(~mask)))

    def share(self, number: int, count: int) -> "Keys":
        """Those of one of `count` shares: by the first 8 hex digits, modulo `count`."""
        starts = np.frombuffer(_bytes(self.array), dtype=[("start", ">u4"), ("rest", f"V{WIDTH - 4}")])
        return Keys(self.array.filter(as_array(starts["start"] % count == number)))

    __hash__ = None  # type: ignore[assignment]


def union(sets: Iterable[Keys]) -> Keys:
    """The keys of several sets, each at its first place."""
    return Keys.distinct(joined(keys.array for keys in sets))


@dataclass(frozen=True)
class Kept:
    """Keys that a file holds between commands, if they are many; it may be deleted at any time.

    Attributes:
        of: what they were computed of, 32 hex digits; of anything else they are computed anew.
        least: fewer keys are not written.
    """

    place: Path
    of: str
    least: int = MANY

    def __call__(self, compute: Callable[[], bytes]) -> bytes:
        found = self._read()
        if found is None:
            found = compute()
            if len(found) >= self.least * WIDTH:
                with suppress(OSError):  # a disk that is full or may not be written to: next time again
                    write_whole(self.place, self._head(found) + found)
        return found

    def _read(self) -> bytes | None:
        try:
            data = self.place.read_bytes()
        except OSError:
            return None
        start = len(self._head(b""))
        return data[start:] if data.startswith(self._head(data[start:])) else None

    def _head(self, keys: bytes) -> bytes:
        return bytes.fromhex(self.of) + hashlib.sha256(keys).digest()


def _digest(key: str) -> bytes | None:
    """None: a text of another form."""
    if len(key) != DIGITS or key != key.lower():
        return None
    try:
        return binascii.unhexlify(key)
    except ValueError:
        return None


@dataclass(frozen=True)
class Index:
    """The keys of several tables, one after the other, and which of them stand at their first place."""

    starts: tuple[int, ...]  # of each table, and where the last one ends
    keys: Packed
    first: Mask | None  # None: all

    @classmethod
    def of(cls, tables: Sequence[Packed]) -> "Index":
        keys = joined(tables)
        return cls((0, *accumulate(map(len, tables))), keys, first_places(keys))

    @property
    def distinct(self) -> Keys:
        """Every key at its first place."""
        return Keys(self.keys if self.first is None else self.keys.filter(as_array(self.first)))

    def count(self, numbers: Sequence[int]) -> int:
        """How many keys some tables have that lie side by side, each once."""
        start, end = self.starts[numbers[0]], self.starts[numbers[-1] + 1]
        if self.first is None:
            return end - start
        return int(pc.count_distinct(self.keys.slice(start, end - start)).as_py())

    @cached_property
    def _questions(self) -> Iterator[int]:
        return count()

    def _pays_to_sort(self, chosen: Packed) -> bool:
        """From the second question for a few on: most commands have one."""
        few = len(chosen) <= len(self.keys) // FEW and chosen.type == self.keys.type == KIND
        return few and next(self._questions) > 0

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """First halves of the keys in order, and where each stands; 16 bytes a key."""
        halves = np.frombuffer(_bytes(self.keys), np.uint64)[::2]
        order = np.argsort(halves, kind="stable")
        return halves[order], order

    def _places(self, chosen: Packed) -> NDArray[np.int64]:
        """Where keys stand that are to be found, in order: in a time that hangs on their number."""
        first, order = self._sorted
        sought, every = (np.frombuffer(_bytes(of), np.uint64).reshape(-1, 2) for of in (chosen, self.keys))
        left, right = (np.searchsorted(first, sought[:, 0], side) for side in ("left", "right"))
        alike = right - left
        rows = order[np.repeat(left - np.cumsum(alike) + alike, alike) + np.arange(alike.sum())]
        rows = np.sort(rows[every[rows, 1] == np.repeat(sought[:, 1], alike)])
        return rows if self.first is None else rows[self.first[rows]]

    def _found(self, chosen: Packed) -> Iterator[tuple[int, Mask | None]]:
        """As `kept`; looks at the tables alone that have some."""
        rows, starts = self._places(chosen), np.array(self.starts)
        numbers = np.searchsorted(starts, rows, "right") - 1
        for number in np.unique(numbers).tolist():
            mask = np.zeros(starts[number + 1] - starts[number], np.bool_)
            first, last = np.searchsorted(numbers, [number, number + 1])
            mask[rows[first:last] - starts[number]] = True
            yield number, None if mask.all() else mask

    def each(self) -> list[Packed]:
        """The keys of each table; nothing is copied."""
        return [self.keys.slice(start, end - start) for start, end in pairwise(self.starts)]

    def kept(self, chosen: Keys | None = None) -> Iterator[tuple[int, Mask | None]]:
        """Tables with rows at their first place, and of some keys only, and which rows; None: all of them.

        Args:
            chosen: None: of any keys.
        """
        if chosen is not None and self._pays_to_sort(chosen.array):
            yield from self._found(chosen.array)
            return
        kept = self.first
        if chosen is not None:
            found = among(self.keys, chosen.array)
            kept = found if kept is None else found & kept
        for number, (start, end) in enumerate(pairwise(self.starts)):
            mask = None if kept is None else kept[start:end]
            if mask is None or mask.any():
                yield number, None if mask is None or mask.all() else mask
