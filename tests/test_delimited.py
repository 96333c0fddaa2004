"""Tables by a rule: which delimiter, which quotes, which line ends; and what no reading fits."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpo_cli.delimited import read_table
from rpo_cli.errors import UsageError
from rpo_cli.text import NotText, decoded, delimiter_of, known_encoding, lines


def cells(text, ending=".csv", **how):
    return [row for _, row in read_table(text, "t", ending, **how).rows]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("prompt,n\na,1\n", [["a", "1"]]),
        ("prompt;n\na, b;1\n", [["a, b", "1"]]),
        ("prompt\na;b\n", [["a;b"]]),
        ('prompt,n\n"a, b",1\n"c ""d""",2\n', [["a, b", "1"], ['c "d"', "2"]]),
        ('prompt;n\n"a;b";1\n', [["a;b", "1"]]),
        ('prompt,n\n"a\nb",1\n', [["a\nb", "1"]]),
        ('prompt,n\r\n"a\r\nb",1\r\n', [["a\r\nb", "1"]]),
        ('prompt,n\r"a\nb",1\rc,2\r', [["a\nb", "1"], ["c", "2"]]),
        ('prompt,n\n6" pipe,1\n', [['6" pipe', "1"]]),
        (",prompt\n0,a\n", [["0", "a"]]),
        ("prompt,n\n\na,1\n\n", [["a", "1"]]),
        ("prompt,n\na\u2028b,1\nc\x0cd\x85e,2", [["a\u2028b", "1"], ["c\x0cd\x85e", "2"]]),
        ("prompt,n\n# a comment? no,1\n", [["# a comment? no", "1"]]),
    ],
)
def test_a_table_reads_as_it_was_written(text, rows):
    assert cells(text) == rows


def test_a_tsv_has_quotes_where_all_are_well_formed_and_none_where_one_is_not():
    assert cells('a\tb\n"x\ty"\t1\n', ".tsv") == [["x\ty", "1"]]
    assert cells('a\tb\n"x" y\t1\n"z\t2\n', ".tsv") == [['"x" y', "1"], ['"z', "2"]]
    assert cells("a\nx, y; z\n", ".tsv") == [["x, y; z"]]


def test_a_reading_with_other_rows_than_the_one_without_quotes_is_said():
    table = read_table('a\tb\n"x\ty\nz w"\t1\n"v"\t2\n', "t.tsv", ".tsv")
    assert [row for _, row in table.rows] == [["x\ty\nz w", "1"], ["v", "2"]]
    assert "which makes 2 rows; without quoting there are 3: --quoting none" in table.note
    assert read_table('a\tb\n"x\nz"\t1\n', "t.tsv", ".tsv").note == ""  # a cell less without quotes
    alike = read_table('a\n"x\ny"\n', "t.tsv", ".tsv")
    assert "--quoting none" in alike.note


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("prompt\na red circle, on white\nb\n", 2, "2 cells, the header has 1"),
        ('prompt,n\na,1\n"b" c,2\n"d,3\ne,4\n', 3, "goes on after its closing quote"),
        ('prompt,n\na,1\n"b,2\nc,3\n', 3, "a quote that opens here never closes"),
        ("prompt,n\na,1\nb\n", 3, "1 cell, the header has 2"),
        ("prompt,n\na,1,\n", 2, "3 cells, the header has 2"),
        ("prompt,n\na\rb,1\nc,2\n", 2, "a carriage return inside a cell"),
        ("prompt,prompt\na,b\n", 1, "column 'prompt' stands twice"),
        ('prompt,n\n"a\nb",1\n"c\nd",2,3\n', 4, "3 cells"),
    ],
)
def test_what_no_reading_fits_names_the_line_at_fault(text, line, why):
    with pytest.raises(UsageError) as error:
        read_table(text, "t.csv", ".csv")
    assert error.value.message.startswith(f"t.csv:{line}: ")
    assert why in error.value.message


def test_two_delimiters_that_both_fit_are_not_chosen_between():
    with pytest.raises(UsageError, match="both ',' and ';'"):
        read_table("a,b;c\nd,e;f\n", "t", ".csv")
    assert cells("a,b;c\nd,e;f\n", delimiter=";") == [["d,e", "f"]]


def test_what_the_user_says_overrules_the_rule():
    assert cells("prompt|n\na, b|1\n", delimiter=delimiter_of("pipe")) == [["a, b", "1"]]
    assert cells('prompt,n\n"a" b,1\n', quoting="none") == [['"a" b', "1"]]
    assert cells("prompt\ta\nx\ty\n", delimiter=delimiter_of("tab")) == [["x", "y"]]
    for name in ("", "ab", '"', "\n"):
        with pytest.raises(UsageError, match="not one character"):
            delimiter_of(name)


def test_a_cell_of_any_length_is_read():
    assert cells(f"prompt,n\n{'x' * 300_000},1\n")[0][0] == "x" * 300_000


def test_lines_end_at_line_feeds_alone():
    text = "a\u2028b\x85c\x0cd\x1ee\rf\r\ng\n\nh"
    assert lines(text) == ["a\u2028b\x85c\x0cd\x1ee\rf", "g", "", "h"]
    assert lines("") == []
    assert lines("a\n") == ["a"]


def test_text_is_utf8_with_or_without_a_mark_and_nothing_else():
    assert decoded("\ufeffcafé".encode()) == decoded("café".encode()) == "café"
    with pytest.raises(NotText, match=r"line 2: byte 6 of the file \(0xe9\) is not UTF-8"):
        decoded(b"a\nbcdf\xe9\n")
    for name, said in (("utf-16", "UTF-16"), ("utf-32", "UTF-32")):
        with pytest.raises(NotText, match=f"is {said}"):
            decoded("café".encode(name))
        assert decoded("café".encode(name), name) == "café"
    with pytest.raises(NotText, match="NUL"):
        decoded("a cafe".encode("utf-16-le"))
    assert decoded("\ufeffcafé".encode("utf-16-le"), "utf-16-le") == "café"
    assert decoded("café".encode("cp1252"), "cp1252") == "café"
    with pytest.raises(NotText, match="is not SHIFT_JIS"):
        decoded(b"\xff\xff", "shift_jis")


def test_a_name_that_is_no_encoding_of_text_is_refused_with_the_nearest():
    for name in ("utf-9", "hex", "cp1525"):
        with pytest.raises(UsageError, match=f"--encoding {name}"):
            known_encoding(name)
    known_encoding("utf-16")


# --- any table --------------------------------------------------------------------------------------------

TEXT = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\ufeff\r"), max_size=12
) | st.sampled_from(
    ['"', '""', 'a "b" c', '"a', "a,b", "a;b", "a\tb", "a\nb", "a\u2028b", "x\x0cy", " a ", "#"]
)
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.tuples(
        st.lists(st.from_regex(r"[a-z]{1,5}", fullmatch=True), min_size=width, max_size=width, unique=True),
        st.lists(st.lists(TEXT, min_size=width, max_size=width), min_size=1, max_size=6),
    )
)


@given(
    table=TABLES,
    delimiter=st.sampled_from(",;\t"),
    ends=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
@settings(max_examples=400, deadline=None)
def test_what_a_csv_writer_has_written_comes_back_or_is_an_error(table, delimiter, ends, quoting, encoding):
    header, rows = table
    if ends == "\r":  # a writer does not quote a line feed that is no line end of its own
        rows = [[cell.replace("\n", " ") for cell in row] for row in rows]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=ends, quoting=quoting)
    writer.writerows([header, *rows])
    text = decoded(out.getvalue().encode(encoding), None if encoding.startswith("utf-8") else encoding)
    ending = ".tsv" if delimiter == "\t" else ".csv"
    try:
        table = read_table(text, "t", ending)
    except UsageError:
        # one column: another delimiter or an empty line is indistinguishable from more cells
        assert len(header) == 1 or delimiter in ",;"
        table = read_table(text, "t", ending, delimiter=delimiter, quoting="rfc4180")
    blank = [[""]] if len(header) == 1 else []
    assert [row for _, row in table.rows if row not in blank] == [row for row in rows if row not in blank]


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\nn;prompt\r\n1;a, b\r\n2;c\r\n",
        '"sep=;"\nn;prompt\n1;"a, b"\n2;c\n',
        "sep=;\rn;prompt\r1;a, b\r2;c\r",
        "SEP=|\nn|prompt\n1|a, b\n2|c\n",
        'sep=,\nn,prompt\n1,"a, b"\n2,c\n',
    ],
)
def test_excels_own_first_line_names_the_delimiter_and_is_no_row(text):
    table = read_table(text, "t.csv", ".csv")
    assert table.header == ("n", "prompt")
    assert list(table.rows) == [(3, ["1", "a, b"]), (4, ["2", "c"])]
    with pytest.raises(UsageError, match=r"t\.csv:3: 3 cells"):
        read_table("sep=;\na;b\n1;2;3\n", "t.csv", ".csv")


def test_quotes_that_are_taken_off_where_they_might_be_text_are_said():
    table = read_table('prompt\tn\n"OPEN"\t1\nb\t2\n', "t.tsv", ".tsv")
    assert [row for _, row in table.rows] == [["OPEN", "1"], ["b", "2"]]
    assert "cells of 1 rows are read as quotes" in table.note
    assert "--quoting none keeps them" in table.note
    assert read_table("prompt\tn\na\t1\n", "t.tsv", ".tsv").note == ""


def test_the_rows_of_a_table_can_be_read_again():
    table = read_table("a,b\n1,2\n\n3,4\n", "t.csv", ".csv")
    assert (table.count, table.blank) == (2, 1)
    assert list(table.rows) == list(table.rows) == [(2, ["1", "2"]), (4, ["3", "4"])]
