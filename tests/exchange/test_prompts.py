"""Prompts in: what counts as one, from which column, in which order."""

import pytest

from rpo_cli.config import PromptSettings
from rpo_cli.errors import UsageError
from rpo_cli.exchange.prompts import read_prompts
from rpo_cli.records import content_key


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
