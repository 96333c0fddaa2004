"""Rows as Arrow tables and Parquet bytes: the one place where a schema is derived from its pydantic row.

dict[str, float] becomes list<struct<name, value>>: pandas, DuckDB and `datasets` all read it, and unlike
a struct its schema does not change with the names of the rewards.
"""

import io
import json
import types
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rpo_cli.records import PART_VERSION, TABLES, ImageData, Row

ROWS_PER_GROUP = 100
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


def to_table(row: type[Row], rows: Iterable[Row]) -> pa.Table:
    """Rows → table, in the order given."""
    records = [item.model_dump() for item in rows]
    for record in records:
        record |= {name: _items(record[name]) for name in _mappings(row)}
    return pa.Table.from_pylist(records, schema=schema_of(row))


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
    return pa.array([value] * rows, type=schema_of(row).field(name).type)


def encode(table: pa.Table) -> bytes:
    """Parquet bytes that depend on the table only."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=ROWS_PER_GROUP, compression="zstd", write_statistics=False)
    return buffer.getvalue()
