"""Prompts in: what counts as one, from which column, in which order."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rpo_cli.config import PromptSettings
from rpo_cli.errors import UsageError
from rpo_cli.exchange.prompts import read_prompts
from rpo_cli.records import content_key
from rpo_cli.text import normalised, split_of


@pytest.fixture
def texts(tmp_path):
    """`texts(name, content, ...)` → the prompts that a file gives."""

    def call(name, content, **settings):
        (tmp_path / name).write_text(content, encoding="utf-8")
        return [
            one.prompt
            for one in read_prompts(PromptSettings(file=str(tmp_path / name), **settings)).prompts
        ]

    return call


def test_each_text_counts_once_trimmed_and_at_its_first_place(texts):
    assert texts("a.txt", "two\n\n one \ntwo\n\tone\nTwo\n") == ["two", "one", "Two"]
    assert texts("a.txt", "one\none\ntwo\nthree\n", limit=2) == ["one", "two"]


def test_a_prompts_id_hangs_on_its_text_alone(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("one\n")
    first, second = (
        read_prompts(PromptSettings(file=str(tmp_path / name))).prompts[0] for name in ("a.txt", "b.txt")
    )
    assert first.prompt_id == second.prompt_id == content_key("prompt", "one")
    assert (first.source, second.source) == ("a.txt", "b.txt")


def test_a_quote_in_a_tsv_is_a_letter_and_in_a_csv_a_quote(texts):
    """PartiPrompts is TSV and holds rows with one quote."""
    table = 'Prompt\tCategory\n"hello" in ink\tx\n"a ball\ty\na dog\tz\n'
    assert texts("a.tsv", table) == ['"hello" in ink', '"a ball', "a dog"]
    assert texts("a.csv", 'prompt,n\n"a cat, a dog",1\n') == ["a cat, a dog"]


def test_a_column_is_the_one_that_is_named_or_else_a_likely_one(texts):
    table = '{"caption": "one", "Prompt": "two", "other": "three"}\n'
    assert texts("a.jsonl", table) == ["one"]
    assert texts("a.jsonl", table, column="other") == ["three"]
    with pytest.raises(UsageError, match=r"no column 'othr'; it has: .*; did you mean 'other'"):
        texts("a.jsonl", table, column="othr")


def test_a_text_that_is_too_long_and_a_file_without_any_are_refused(texts):
    with pytest.raises(UsageError, match="10,001 characters"):
        texts("a.txt", "x" * 10_001)
    with pytest.raises(UsageError, match="holds no prompt"):
        texts("a.txt", "\n \n")


# --- what other people's files hold ---------------------------------------------------------------------


@pytest.fixture
def source(tmp_path):
    """`source(name, content, ...)` → what a file of prompts holds."""

    def call(name, content, **settings):
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        return read_prompts(PromptSettings(file=str(tmp_path / name), **settings))

    return call


def prompts(found):
    return [one.prompt for one in found.prompts]


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        (
            "a.csv",
            'id,prompt\n1,"a red circle\non white"\n2,"a ""blue"" one"\n',
            ["a red circle\non white", 'a "blue" one'],
        ),
        ("a.jsonl", '{"prompt": "a\u2028b"}\n{"prompt": "c\x85d"}\n', ["a\u2028b", "c\x85d"]),
        ("a.ndjson", '{"prompt": "a\\u2029b"}\r\n{"prompt": "c"}', ["a\u2029b", "c"]),
        ("a.txt", "a\u2028b\nc\x0cd\r\n# e\n\ufefff\n", ["a\u2028b", "c\x0cd", "# e", "f"]),
        ("a.txt", b"\xef\xbb\xbfa cat\n", ["a cat"]),
        ("a.csv", b'\xef\xbb\xbf"prompt";n\r\n"a, b";1\r\n', ["a, b"]),
        ("A.CSV", "prompt\na cat\n", ["a cat"]),
        ("a.json", '[{"prompt": "a"}, {"prompt": "b"}]', ["a", "b"]),
        ("a.json", '["a", "b"]', ["a", "b"]),
        ("a.json", '{"prompt": "a"}\n{"prompt": "b"}\n', ["a", "b"]),
        ("a.tsv", 'Prompt\tn\n"hello" in ink\t1\n', ['"hello" in ink']),
        ("a.csv", "prompt\r'a'\rb\r", ["'a'", "b"]),
    ],
)
def test_a_file_reads_as_it_was_written(source, name, content, texts):
    assert prompts(source(name, content)) == texts


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", 'prompt,s\na,oil\n"Starry" night,oil\n"open,x\nb,x\n', "a.csv:3: a quoted cell goes on"),
        ("a.csv", "prompt\na red circle, on white\n", "a.csv:2: 2 cells, the header has 1"),
        ("a.csv", "prompt\ncaf\u00e9\n".encode("cp1252"), "line 2: byte 10"),
        ("a.txt", "a\nb caf\u00e9\n".encode("latin-1"), "line 2: byte 7"),
        ("a.csv", "prompt\na\n".encode("utf-16"), "is UTF-16"),
        (
            "a.jsonl",
            '{"prompt": "a"}\n{"prompt": "b", "prompt": "c"}\n',
            "a.jsonl:2: .*'prompt' stands twice",
        ),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": \n', "a.jsonl:2: not valid JSON"),
        ("a.txt", "", "holds no prompts"),
        ("a.csv", "prompt\n", "holds no prompts"),
        ("a.json", "[]", "holds no prompts"),
        ("a.json", '[{"prompt": "a"} {"prompt": "b"}]', "no comma after item 0"),
        ("a.json", '[{"prompt": "a"}] and more', "goes on after the end"),
        ("a.jsonl", '{"prompt": NaN}\n', "NaN is no text"),
    ],
)
def test_what_cannot_be_read_exactly_is_refused_with_its_place(source, name, content, said):
    with pytest.raises(UsageError, match=said):
        source(name, content)


def test_a_value_that_is_no_text_is_a_reject_with_its_place_and_every_row_is_counted(source):
    rows = [
        "NaN",
        '["a", "b"]',
        '[{"role": "user", "content": "a"}]',
        "7",
        "true",
        '"\\ud800 x"',
        '"a cat"',
    ]
    lines = [f'{{"prompt": {row}}}' for row in rows] + [
        '{"other": 1}',
        '{"prompt": null}',
        '{"prompt": " "}',
    ]
    found = source(
        "a.jsonl", "\n".join([*lines, '{"prompt": "a cat"}', '{"prompt": "A  cat"}', "5"]) + "\n"
    )

    assert prompts(found) == ["a cat", "A  cat"]
    assert [text.split(":")[0] for text in found.rejected] == [f"line {n}" for n in (1, 2, 3, 4, 5, 6, 13)]
    assert found.left_out == {"blank": 1, "doubled": 1, "without a value in the column": 2}
    assert found.rows == 13 == len(found.prompts) + len(found.rejected) + found.left_out.total()
    assert found.account()[0] == (
        "a.jsonl: 13 rows: 2 taken, 7 rejected, 1 blank, 1 doubled, 2 without a value in the column"
    )
    assert "line 1: NaN is no text" in found.account()[1]
    assert "differ from an earlier one" in found.account()[2]


def test_a_column_of_parquet_that_holds_no_texts_is_rejected_row_by_row(tmp_path):
    pq.write_table(pa.table({"prompt": [["a"], ["b"]], "n": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="row 0: a list is no text"):
        read_prompts(PromptSettings(file=str(tmp_path / "a.parquet")))
    values = pa.array(["a", None, "b"]).dictionary_encode()
    pq.write_table(
        pa.table({"prompt": values, "large": pa.array(["c"] * 3, pa.large_string())}),
        tmp_path / "b.parquet",
    )
    assert prompts(read_prompts(PromptSettings(file=str(tmp_path / "b.parquet")))) == ["a", "b"]
    assert prompts(read_prompts(PromptSettings(file=str(tmp_path / "b.parquet"), column="large"))) == ["c"]


def test_an_encoding_a_delimiter_and_a_quoting_are_what_the_user_says(source):
    assert prompts(source("a.csv", "prompt\ncaf\u00e9\n".encode("cp1252"), encoding="cp1252")) == [
        "caf\u00e9"
    ]
    assert prompts(source("a.txt", "\u3042\n".encode("shift_jis"), encoding="shift_jis")) == ["\u3042"]
    assert prompts(source("a.jsonl", '{"prompt": "\u00e9"}\n'.encode("utf-16"), encoding="utf-16")) == [
        "\u00e9"
    ]
    assert prompts(source("a.csv", "prompt|n\na, b|1\n", delimiter="pipe")) == ["a, b"]
    assert prompts(source("a.csv", 'prompt,n\n"a" b,1\n', quoting="none")) == ['"a" b']
    with pytest.raises(UsageError, match="--encoding utf-9"):
        source("a.txt", "a\n", encoding="utf-9")


def test_the_text_stays_as_it_is_given_and_unseen_characters_differ_in_identity_alone(source):
    texts = ["a cat", "a\u200b cat", "a cat\ufe0f", "\u202aa cat\u202c", "a\u00ad cat", "a ca\u0301t"]
    found = source("a.txt", "\n".join(texts) + "\n")
    assert prompts(found) == texts
    assert len(found.alike) == 4  # the acute accent is a letter's own mark
    assert {normalised(text) for text in texts} == {"a cat", normalised("a ca\u0301t")}
    assert {split_of(text, 0.5) for text in texts[:5]} == {split_of("a cat", 0.5)}


def test_prompts_of_a_benchmark_are_left_out_in_any_spelling_and_counted(source, tmp_path):
    (tmp_path / "bench.tsv").write_text("Prompt\tCategory\nA  Cat\tx\na dog\ty\n")
    found = source("a.txt", "a cat\na\u200b dog\na cow\n", leave_out=[str(tmp_path / "bench.tsv")])
    assert prompts(found) == ["a cow"]
    assert found.account() == ["a.txt: 3 rows: 1 taken, 2 in bench.tsv (prompts.leave_out)"]
    with pytest.raises(UsageError, match=r"gone\.txt: no such file"):
        source("a.txt", "a\n", leave_out=[str(tmp_path / "gone.txt")])


def test_a_limit_counts_the_rows_that_were_read(source):
    found = source("a.txt", "a\na\nb\nc\nd\n", limit=2)
    assert found.account() == ["a.txt: the first 3 rows: 2 taken, 1 doubled"]


def test_a_name_of_a_file_in_another_encoding_can_be_kept(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    with open(name, "wb") as file:
        file.write(b"a cat\n")
    (prompt,) = read_prompts(PromptSettings(file=os.fsdecode(name))).prompts
    assert prompt.source == r"caf\udce9.txt"
    assert prompt.source.encode()


@pytest.mark.parametrize(
    ("name", "content", "encoding"),
    [
        ("a.jsonl", '\ufeff{"prompt":"ä"}\n\ufeff{"prompt":"b"}\n'.encode(), None),
        ("a.jsonl", '\ufeff{"prompt":"ä"}\n{"prompt":"b"}\n'.encode(), "utf-8"),
        ("a.jsonl", '\ufeff{"prompt":"ä"}\n{"prompt":"b"}\n'.encode("utf-16-le"), "utf-16-le"),
        ("a.json", '\ufeff [{"prompt":"ä"},\n{"prompt":"b"}]\n'.encode("utf-16-be"), "utf-16-be"),
    ],
)
def test_a_mark_at_the_start_of_a_line_of_json_is_no_part_of_it(source, name, content, encoding):
    assert prompts(source(name, content, encoding=encoding)) == ["ä", "b"]


def test_an_item_of_a_list_that_names_a_key_twice_is_a_reject_in_its_words(source):
    found = source("a.json", '[{"prompt":"a","prompt":"b"}, {"prompt":"c"}]')
    assert (prompts(found), found.rows) == (["c"], 2)
    assert found.rejected == ["item 0: 'prompt' stands twice"]


def test_a_text_that_looks_like_a_table_or_has_other_line_ends_is_read_as_lines_and_said(source):
    found = source("a.txt", "Nr\tPrompt\n1\ta\n")
    assert prompts(found) == ["Nr\tPrompt", "1\ta"]
    assert "every line holds a tab" in found.account()[0]
    found = source("b.txt", "a\rb\r\nc\td\n")
    assert prompts(found) == ["a\rb", "c\td"]
    assert found.account()[0].startswith("b.txt: 1 lone carriage returns")
