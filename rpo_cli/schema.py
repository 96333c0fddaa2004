"""Rows as Arrow tables: the one place where a table's schema is derived from its pydantic row.

dict[str, float] becomes list<struct<name, value>>: pandas, DuckDB and `datasets` all read it, and unlike
a struct its schema does not change with the names of the rewards.
"""

import json
import types
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rpo_cli.records import FORMAT_VERSION, ImageData, Row

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
        "rpo_format": str(FORMAT_VERSION),
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


def to_table(row: type[Row], rows: Iterable[Row]) -> pa.Table:
    """Rows → table, in the order given."""
    return pa.Table.from_pylist([_plain(item.model_dump()) for item in rows], schema=schema_of(row))


def _plain(dumped: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [{"name": k, "value": v} for k, v in sorted(value.items())]
        if _is_mapping(name, value)
        else value
        for name, value in dumped.items()
    }


def _is_mapping(name: str, value: Any) -> bool:
    return isinstance(value, dict) and name != "image"


def from_table(row: type[Row], table: pa.Table) -> Iterator[Row]:
    """Table → rows; a column that an older part lacks takes the field's default."""
    mappings = {name for name, field in row.model_fields.items() if get_origin(field.annotation) is dict}
    for record in table.to_pylist():
        for name in mappings & record.keys():
            record[name] = {item["name"]: item["value"] for item in record[name]}
        yield row.model_validate(record)
