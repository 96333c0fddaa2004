"""Sentences of no change, orders, refusals and critiques in the languages that critics speak."""

import random
import time
import tomllib
from pathlib import Path

import pytest

from rpo_cli.stages.instructions import asks_anew, asks_for_nothing, asks_for_something, instructions_of
from rpo_cli.stages.refusals import is_refusal

SAID = tomllib.loads((Path(__file__).parent / "sentences.toml").read_text(encoding="utf-8"))


def test_a_sentence_of_no_change_asks_for_nothing():
    assert [text for text in SAID["nothing"] if not asks_for_nothing(text)] == []


def test_where_no_flaw_was_named_no_remark_reaches_an_editor():
    texts = [*SAID["nothing"], *SAID["remarks"]]
    assert [text for text in texts if instructions_of([text], 3, flawless=True).kept != ()] == []


def test_most_orders_of_every_kind_are_known_for_orders():
    known = [text for text in SAID["orders"] if asks_for_something(text)]
    assert len(known) * 100 >= 88 * len(SAID["orders"])


def test_an_order_is_never_taken_for_a_sentence_of_no_change():
    assert [text for text in [*SAID["orders"], *SAID["anew"]] if asks_for_nothing(text)] == []


def test_the_wish_for_another_picture_is_told():
    assert [text for text in SAID["anew"] if not asks_anew(text)] == []


def test_what_an_editor_can_do_is_no_wish_for_another_picture():
    assert [text for text in [*SAID["orders"], *SAID["nothing"]] if asks_anew(text)] == []


def test_a_refusal_is_told_by_its_place():
    assert [text for text in SAID["refusals"] if not is_refusal(text)] == []
    behind = [f"Thank you.\n\n{text.strip(chr(34))}" for text in SAID["refusals"]]
    assert [text for text in behind if not is_refusal(text)] == []


def test_a_critique_or_an_instruction_is_no_refusal_whatever_it_quotes():
    texts = [*SAID["critiques"], *SAID["orders"], *SAID["nothing"]]
    assert [text for text in texts if is_refusal(text)] == []


def test_a_refusal_that_is_quoted_is_none():
    quoted = [f'A sign on the wall reads "{text}" in red.' for text in SAID["refusals"] if '"' not in text]
    assert [text for text in quoted if is_refusal(text)] == []


@pytest.mark.parametrize("text", ["Make the circle red", "把圆变成红色", "rends le cercle rouge"])
@pytest.mark.parametrize("joined", ["{0}. {1}", "{1}, {0}", "{1}. {0}!"])
def test_an_order_beside_a_sentence_of_no_change_is_kept(text, joined):
    no_change = {"M": "keep everything else as it is", "把": "其他保持不变", "r": "ne change rien d'autre"}[
        text[0]
    ]
    assert not asks_for_nothing(joined.format(text, no_change))


def test_no_text_takes_long_to_tell():
    """Patterns that try every split of a text would take minutes on these."""
    words = ["no", "not", "the", "is", "already", "and", ",", "nothing", "keep", "as", "it", "不", "nichts"]
    words += ["kein", "das", "bild", "ne", "rien", "la", "imagen", "'", "(", ";", "sorry", "i"]
    rng, started = random.Random(0), time.monotonic()
    for word in words:
        for text in (f"{word} " * 2000, word * 5000, " ".join(rng.choice(words) for _ in range(3000))):
            asks_for_nothing(text)
            asks_anew(text)
            is_refusal(text)
    assert time.monotonic() - started < 60  # not a figure: a second against hours
