"""Parts: rows as Arrow tables, their Parquet bytes and their names; schemas follow from the pydantic rows.

dict[str, float] becomes list<struct<name, value>>: pandas, DuckDB and `datasets` all read it, and unlike
a struct its schema does not change with the names of the rewards.
"""

import hashlib
import io
import json
import re
import types
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, chain
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rpo_cli.keysets import as_array
from rpo_cli.records import PART_VERSION, TABLES, ImageData, Row

COMPACT = "compact"
_PROMPT = re.compile("-[0-9a-f]{8}-")  # the beginning of a prompt_id, in the name of a part
# of a row group, which is what is read for one picture: small, and for a light column: long
BYTES_PER_GROUP = 16_000_000
ROWS_PER_GROUP = 10_000
SCALARS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), bytes: pa.binary()}
# enough of the features format of `datasets` to make it decode our image columns
FEATURES = {
    pa.string(): {"dtype": "string", "_type": "Value"},
    pa.int64(): {"dtype": "int64", "_type": "Value"},
    pa.float64(): {"dtype": "float64", "_type": "Value"},
    pa.bool_(): {"dtype": "bool", "_type": "Value"},
    pa.binary(): {"dtype": "binary", "_type": "Value"},
}


@cache
def schema_of(row: type[Row]) -> pa.Schema:
    """The Arrow schema of a row, with the format version and the features that `datasets` reads."""
    fields = [pa.field(name, arrow_type(field.annotation)) for name, field in row.model_fields.items()]
    features = {name: _feature(field) for name, field in row.model_fields.items()}
    metadata = {
        "rpo_format": str(PART_VERSION),
        "huggingface": json.dumps({"info": {"features": features}}, sort_keys=True),
    }
    return pa.schema(fields, metadata=metadata)


def arrow_type(annotation: Any) -> pa.DataType:
    """The Arrow type of a field's annotation.

    Raises:
        TypeError: a type that no row has had so far; add it here.
    """
    if annotation in SCALARS:
        return SCALARS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return pa.string()
    if origin in (Union, types.UnionType):
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return arrow_type(inner)
    if origin in (tuple, list):
        return pa.list_(arrow_type(arguments[0]))
    if origin is dict:
        return pa.list_(pa.struct([("name", pa.string()), ("value", arrow_type(arguments[1]))]))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        inner_fields = annotation.model_fields.items()
        return pa.struct([(name, arrow_type(field.annotation)) for name, field in inner_fields])
    raise TypeError(f"no Arrow type for {annotation!r}")


def _feature(field: FieldInfo) -> Any:
    if field.annotation is ImageData:
        return {"_type": "Image"}
    return _feature_of(arrow_type(field.annotation))


def _feature_of(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return {"feature": _feature_of(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature_of(field.type) for field in kind}
    return FEATURES[kind]


def key_of(table: str) -> str:
    """Name of a table's key column: the first field of its row."""
    return next(iter(TABLES[table].model_fields))


@cache
def _mappings(row: type[Row]) -> frozenset[str]:
    """Names of the dict[str, ...] fields, optional ones too."""
    fields = row.model_fields.items()
    return frozenset(name for name, field in fields if _is_mapping(field.annotation))


def _is_mapping(annotation: Any) -> bool:
    return dict in (get_origin(annotation), *map(get_origin, get_args(annotation)))


def _items(value: dict[str, Any] | None) -> list[dict[str, Any]] | None:
    return None if value is None else [{"name": k, "value": v} for k, v in sorted(value.items())]


def to_table(row: type[Row], rows: Sequence[Row]) -> pa.Table:
    """Rows → table, in the order given."""
    schema = schema_of(row)
    return pa.table([_column(row, field, rows) for field in schema], schema=schema)


def _column(row: type[Row], field: pa.Field, rows: Sequence[Row]) -> pa.Array:
    values = [getattr(item, field.name) for item in rows]
    if field.name in _mappings(row):
        values = [_items(value) for value in values]
    elif pa.types.is_nested(field.type):
        values = [_plain(value) for value in values]
    return array_of(values, field.type)


def array_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """What `pa.array` makes of them, which imports pandas for it: a tenth of a second and 40 MB.

    Raises:
        TypeError, AttributeError: a value of another kind.
    """
    try:
        return _array(values, kind)
    except OverflowError:  # more bytes than one array holds
        return pa.array(values, kind)


NUMBERS = {pa.int64(): "q", pa.int8(): "b", pa.float64(): "d"}  # → `array`'s code, which takes no others


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    there = [value is not None for value in values]
    missing = len(there) - sum(there)
    bits = [as_array(np.array(there, np.bool_)).buffers()[1] if missing else None]
    if kind in NUMBERS:
        numbers = array(NUMBERS[kind], (0 if value is None else value for value in values))
        return pa.Array.from_buffers(kind, len(values), [*bits, pa.py_buffer(numbers)], missing)
    if pa.types.is_boolean(kind):
        flags = as_array(np.array([bool(value) for value in values], np.bool_)).buffers()[1]
        return pa.Array.from_buffers(kind, len(values), [*bits, flags], missing)
    if pa.types.is_struct(kind):
        known = [value or {} for value in values]
        children = [_array([value.get(part.name) for value in known], part.type) for part in kind]
        return pa.Array.from_buffers(kind, len(values), bits, missing, children=children)
    if pa.types.is_list(kind):
        whole = [value or () for value in values]
        inside = _array(list(chain.from_iterable(whole)), kind.value_type)
        return pa.Array.from_buffers(kind, len(values), [*bits, _ends(whole)], missing, children=[inside])
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        text = pa.types.is_string(kind)
        parts = [b"" if value is None else value.encode() if text else value for value in values]
        data = pa.py_buffer(b"".join(parts))
        return pa.Array.from_buffers(kind, len(values), [*bits, _ends(parts), data], missing)
    return pa.nulls(missing, kind) if missing == len(values) else pa.array(values, kind)


def _ends(parts: Sequence[Any]) -> pa.Buffer:
    """Where each part begins and ends in all of them; too many overflow."""
    return pa.py_buffer(array("i", accumulate(map(len, parts), initial=0)))


def _plain(value: Any) -> Any:
    """Models in a value as dictionaries."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def from_table(row: type[Row], table: pa.Table) -> list[Row]:
    """Table → rows; a column that an older part lacks takes the field's default.

    Raises:
        pydantic.ValidationError: the table holds something else than these rows.
    """
    records = table.to_pylist()
    for record in records:
        for name in _mappings(row) & record.keys():
            items = record[name]
            record[name] = items if items is None else {item["name"]: item["value"] for item in items}
    return [row.model_validate(record) for record in records]


def complete(row: type[Row], data: pa.Table, columns: Sequence[str]) -> pa.Table:
    """`data` with exactly these columns in today's types; those that an older part lacks are filled."""
    schema = schema_of(row)
    arrays = [
        data.column(name).cast(schema.field(name).type)
        if name in data.column_names
        else _default_column(row, name, data.num_rows)
        for name in columns
    ]
    fields = [schema.field(name) for name in columns]
    whole = [field.name for field in fields] == schema.names
    return pa.table(arrays, schema=schema if whole else pa.schema(fields))


def _default_column(row: type[Row], name: str, rows: int) -> pa.Array:
    field = row.model_fields[name]
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    if name in _mappings(row):
        value = _items(value)
    return array_of([value] * rows, schema_of(row).field(name).type)


def rows_per_group(table: pa.Table) -> int:
    """Rows of a row group of these rows: as many as stay below its bytes and its rows, at least one."""
    fitting: int = BYTES_PER_GROUP * len(table) // max(1, table.nbytes)
    return max(1, min(ROWS_PER_GROUP, fitting))


def encode(table: pa.Table) -> bytes:
    """Parquet bytes that depend on the table only."""
    buffer = io.BytesIO()
    with writer(buffer, table.schema) as out:
        out.write_table(table, row_group_size=rows_per_group(table))
    return buffer.getvalue()


def writer(file: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """A part that is written row group by row group."""
    return pq.ParquetWriter(file, schema, compression="zstd", write_statistics=False)


def together(table: str, columns: Sequence[str], found: Iterable[pa.Table]) -> pa.Table:
    """Columns of a table, found part by part, as one Arrow table."""
    schema = pa.schema([schema_of(TABLES[table]).field(name) for name in columns])
    tables = (data.replace_schema_metadata() for data in found)
    return pa.concat_tables([pa.Table.from_batches([], schema), *tables])  # empty_table() loads pandas


def batched(table: str, columns: Sequence[str], found: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same in tables of about so many rows."""
    waiting: list[pa.Table] = []
    for data in found:
        for start in range(0, len(data), rows):
            waiting.append(data.slice(start, rows))
            if sum(map(len, waiting)) >= rows:
                yield together(table, columns, waiting)
                waiting = []
    if waiting:
        yield together(table, columns, waiting)


def tally(columns: Sequence[str], found: Iterable[pa.Table]) -> Counter[tuple[Any, ...]]:
    """Values of columns → how many rows have them; Arrow's own `group_by` would import pandas."""
    counts: Counter[tuple[Any, ...]] = Counter()
    for data in found:
        if len(data):  # else combining chunks would import it too
            places, values = zip(*(_numbered(data.column(name)) for name in columns), strict=True)
            shape = tuple(map(len, values))
            numbers = np.bincount(np.ravel_multi_index(places, shape))
            for place in np.flatnonzero(numbers):
                row = zip(values, np.unravel_index(place, shape), strict=True)
                counts[tuple(known[number] for known, number in row)] += int(numbers[place])
    return counts


def _numbered(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], list[Any]]:
    """Each row's place among the values that there are, and these; of at least one row."""
    found = column.combine_chunks().dictionary_encode("encode")
    places = np.frombuffer(found.indices.buffers()[1], np.int32)
    return places[found.indices.offset :][: len(found)], found.dictionary.to_pylist()


def picked(data: pa.Table, mask: NDArray[np.bool_]) -> pa.Table:
    """Some rows; of pictures as slices, which copy nothing: their column would overflow in a filter."""
    if not any(pa.types.is_struct(field.type) for field in data.schema):
        return data.filter(as_array(mask))
    places = np.flatnonzero(mask)
    runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
    return pa.concat_tables(data.slice(run[0], len(run)) for run in runs)


def grouped(found: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of one row group each."""
    waiting: list[pa.Table] = []
    for data in found:
        waiting.append(data)
        while (whole := pa.concat_tables(waiting)) and len(whole) >= (rows := rows_per_group(whole)):
            yield whole.slice(0, rows)
            waiting = [whole.slice(rows)]
    if sum(map(len, waiting)):
        yield pa.concat_tables(waiting)


def chunks(rows: Sequence[Row], most: int) -> Iterator[list[Row]]:
    """Rows of one part each: pictures of at most so many bytes, or one that is larger."""
    chunk: list[Row] = []
    size = 0
    for row in rows:
        weight = len(row.image.bytes) if hasattr(row, "image") else 0
        if chunk and size + weight > most:
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += weight
    if chunk:
        yield chunk


@dataclass(frozen=True)
class Part:
    """A finished file of a table. `name` is relative to the run directory."""

    name: str
    group: str
    bytes: int


def group_of(table: str, name: str) -> str:
    """The group of a part of this name, relative to the run directory."""
    return name.rpartition("/")[0].removeprefix(table).strip("/")


def part_name(table: str, group: str, rows: Sequence[Row]) -> str:
    """Of a part of these rows: their least prompt, so that parts lie in order, and a hash of their keys."""
    prompts = (str(row.prompt_id) for row in rows if hasattr(row, "prompt_id"))
    prompt = _PROMPT.search(f"-{min(prompts, default='')[:8]}-")
    return _place(table, group, f"part{_start(prompt)}{_hash(row.key for row in rows)}.parquet")


def compacted_name(table: str, group: str, old: Sequence[str]) -> str:
    """The name of the part that takes the place of these files, which are in order."""
    return _place(table, group, f"{COMPACT}{_start(_PROMPT.search(old[0]))}{_hash(old)}.parquet")


def is_compacted(file: str) -> bool:
    return file.startswith(f"{COMPACT}-")


def _start(prompt: re.Match[str] | None) -> str:
    return prompt[0] if prompt else "-"


def _place(table: str, group: str, file: str) -> str:
    return f"{table}/{group}/{file}" if group else f"{table}/{file}"


def _hash(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:20]


def bins(parts: Iterable[Part], most: int) -> Iterator[list[Part]]:
    """Runs of small parts that fit one large part; a part alone is left as it is."""
    bin_: list[Part] = []
    for part in parts:
        if bin_ and sum(p.bytes for p in bin_) + part.bytes > most:
            if len(bin_) > 1:
                yield bin_
            bin_ = []
        bin_.append(part)
    if len(bin_) > 1:
        yield bin_
