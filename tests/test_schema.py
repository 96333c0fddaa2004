"""Rows as Arrow tables: every row comes back as it was, and plain readers see plain types."""

import io
import random
import subprocess
import sys
import types
from typing import Literal, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from rpo_cli.pictures import encode_png
from rpo_cli.records import TABLES, Critique, Edit, Image, ImageData, Pair, Row
from rpo_cli.schema import array_of, complete, from_table, key_of, schema_of, tally, to_table
from rpo_cli.store import open_store


def value_of(annotation, rng: random.Random, *, empty: bool):
    """A value of a field's type: awkward text, zero bytes, signed numbers; None and () when `empty`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return rng.choice(arguments)
    if origin in (Union, types.UnionType):
        inner = next(item for item in arguments if item is not type(None))
        return None if empty else value_of(inner, rng, empty=empty)
    if origin is tuple:
        return () if empty else tuple(value_of(arguments[0], rng, empty=empty) for _ in range(3))
    if origin is dict:
        return {} if empty else {f"reward {n} ü": rng.gauss(0, 1) for n in range(3)}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return filled(annotation, rng, empty=empty)
    plain = {
        str: "" if empty else f"„Größe“ 🎨\n\t'\"\\ \x00 {rng.random()}",
        bytes: b"" if empty else b"\x00\xff" + rng.randbytes(40),
        int: rng.randint(-(2**40), 2**40),
        float: rng.gauss(0, 1e9),
        bool: rng.random() < 0.5,
    }
    return plain[annotation]


def filled(model, rng: random.Random, *, empty: bool):
    fields = model.model_fields.items()
    return model(**{name: value_of(field.annotation, rng, empty=empty) for name, field in fields})


@pytest.mark.parametrize("table", TABLES)
def test_every_row_comes_back_as_it_was_committed(tmp_path, table):
    rng = random.Random(table)
    rows = [filled(TABLES[table], rng, empty=False) for _ in range(3)]
    rows += [filled(TABLES[table], rng, empty=True)]
    rows = [row.model_copy(update={key_of(table): f"key {n}"}) for n, row in enumerate(rows)]
    keys = {row.key for row in rows}
    store = open_store(tmp_path, create=True)

    store.commit(table, rows, group="settings")

    assert list(open_store(tmp_path, create=True).fetch(table, keys)) == rows
    assert store.keys(table) == keys


def test_plain_readers_see_plain_types(tmp_path):
    """pyarrow alone reads a part: rewards are a list of name and value, flaws a list of structs."""
    rng = random.Random(0)
    store = open_store(tmp_path, create=True)
    store.commit("pairs", [filled(Pair, rng, empty=False)])
    store.commit("critiques", [filled(Critique, rng, empty=False)])

    pair, critique = (
        pq.read_table(tmp_path / store.parts(table)[0].name) for table in ("pairs", "critiques")
    )

    names = pair["margins"].to_pylist()[0]
    assert [item["name"] for item in names] == ["reward 0 ü", "reward 1 ü", "reward 2 ü"]
    assert {type(item["value"]) for item in names} == {float}
    assert set(critique["flaws"].to_pylist()[0][0]) == {"aspect", "detail"}
    assert critique.schema.field("instructions").type == pa.list_(pa.string())


@pytest.mark.slow
def test_datasets_reads_every_table_and_decodes_pictures(tmp_path):
    from datasets import Image as ImageFeature
    from datasets import load_dataset
    from PIL import Image as PIL

    store = open_store(tmp_path / "run", create=True)
    red = encode_png(PIL.new("RGB", (8, 8), (255, 0, 0)))
    for table, row in TABLES.items():
        item = filled(row, random.Random(0), empty=False)
        store.commit(
            table, [item.model_copy(update={"image": ImageData(bytes=red)} if table == "images" else {})]
        )

    def load(table):
        path = str(tmp_path / "run" / store.parts(table)[0].name)
        cache = str(tmp_path / "cache")
        return load_dataset("parquet", data_files=path, split="train", cache_dir=cache)

    for table in TABLES:
        assert load(table).column_names == list(TABLES[table].model_fields)
    assert isinstance(load("images").features["image"], ImageFeature)
    assert load("images")[0]["image"].getpixel((3, 3)) == (255, 0, 0)


def test_a_type_no_row_has_had_so_far_is_refused():
    class Odd(Row):
        table = "odd"
        odd_id: str
        when: complex

    with pytest.raises(TypeError, match="complex"):
        schema_of(Odd)


def test_optional_names_and_numbers_come_back_too():
    """No row has them so far; a column that is added later may."""

    class Scored(Row):
        table = "scored"
        scored_id: str
        scores: dict[str, float] | None = None

    rows = [Scored(scored_id="a", scores={"z": 1.5, "b": -2.0}), Scored(scored_id="b")]

    assert from_table(Scored, to_table(Scored, rows)) == rows


def test_scores_are_kept_by_name_whatever_the_order_they_came_in():
    rows = [filled(Pair, random.Random(0), empty=False)]
    turned = [row.model_copy(update={"margins": dict(reversed(row.margins.items()))}) for row in rows]
    assert list(turned[0].margins) != list(rows[0].margins)
    assert to_table(Pair, turned).equals(to_table(Pair, rows))


def test_a_column_that_an_older_part_lacks_takes_its_default_also_when_it_is_read_alone():
    """`purpose` has a word for one, `against` None, and a required one has none either."""
    edits = to_table(Edit, [filled(Edit, random.Random(n), empty=False) for n in range(2)])
    images = to_table(Image, [filled(Image, random.Random(n), empty=False) for n in range(2)])
    old = images.drop_columns(["kind", "against"])
    assert complete(Edit, edits.drop_columns(["purpose"]), ["purpose"]).to_pydict() == {
        "purpose": ["answer"] * 2
    }
    assert complete(Image, old, ["against", "kind", "seed"]).to_pydict() == {
        "against": [None] * 2,
        "kind": ["generated"] * 2,
        "seed": images["seed"].to_pylist(),
    }


PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
KINDS = {
    pa.string(): ["", "a", "ü\n\N{PILE OF POO}", "x" * 300],
    pa.binary(): [b"", b"\0\xff", b"y" * 300],
    pa.int64(): [0, -1, 2**63 - 1, -(2**63)],
    pa.int8(): [0, 1, -128],
    pa.float64(): [0.0, -0.0, 1e-300, float("inf"), float("nan"), 3],
    pa.bool_(): [True, False],
    PICTURE: [{"bytes": b"png", "path": None}, {"bytes": b"", "path": "a"}, {"path": "no bytes"}],
    pa.list_(pa.string()): [(), ("a",), ["b", None, ""]],
    pa.list_(PICTURE): [[], [{"bytes": b"1", "path": "p"}, {"bytes": None, "path": None}]],
    pa.list_(pa.list_(pa.float64())): [[], [[]], [[1.0, None], None, [2.5]]],
    pa.timestamp("ns"): [None],
    pa.timestamp("s"): [0, 1, -1],
}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_array_is_the_one_that_arrow_makes(kind):
    """Of no, few and many values, some missing: equal values, equal size, equal Parquet bytes."""
    draw = random.Random(str(kind))
    for values in (KINDS[kind], [*KINDS[kind], None]):
        for count in (0, 1, 7, 8, 9, 1000):
            given = draw.choices(values, k=count)
            found, expected = array_of(given, kind), pa.array(given, kind)

            found.validate(full=True)
            assert repr(found.to_pylist()) == repr(expected.to_pylist())
            assert found.null_count == expected.null_count
            assert found.nbytes == expected.nbytes or None in given or not count
            assert parquet_of(found) == parquet_of(expected)


def parquet_of(column):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"column": column}), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "value"), [(pa.int64(), 0.5), (pa.int64(), "1"), (pa.string(), 1)])
def test_an_array_of_another_kind_is_refused(kind, value):
    """Nothing is cut off or turned into something else."""
    with pytest.raises((TypeError, AttributeError)):
        array_of([value], kind)


def test_an_integer_beyond_64_bits_is_refused_as_arrow_does():
    """It overflows here, and is then left to Arrow."""
    with pytest.raises(OverflowError):
        array_of([2**63], pa.int64())


def test_rows_become_a_part_and_rows_again_without_pandas():
    """pandas is installed here and takes longer to load than all of ours: no part needs it."""
    script = """
import sys
from rpo_cli.records import Critique, Flaw, Prompt, TABLES
from rpo_cli.schema import encode, from_table, to_table
rows = [Prompt(prompt_id="a", prompt="b", source="c")] * 3
assert from_table(Prompt, to_table(Prompt, rows)) == rows
for row in TABLES.values():
    encode(to_table(row, []))
print("pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


def test_a_tally_counts_what_stands_together():
    """Over several tables and chunks, missing values too; a table without rows counts nothing."""
    verdicts = pa.chunked_array([["accepted", "dropped"], [None, "accepted"]])
    first = pa.table({"verdict": verdicts, "reason": ["a", "b", "b", "a"]})
    second = first.slice(1, 1)

    assert tally(["verdict", "reason"], [first, second, first.slice(0, 0)]) == {
        ("accepted", "a"): 2,
        ("dropped", "b"): 2,
        (None, "b"): 1,
    }
    assert tally(["reason"], [first]) == {("a",): 2, ("b",): 2}
