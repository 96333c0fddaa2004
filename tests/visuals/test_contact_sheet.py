"""Sheets of pairs: what is chosen, drawn and written, and where two pictures differ."""

import random

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw, ImageFont

from rpo_cli.records import Pair, content_key
from rpo_cli.visuals import canvas
from rpo_cli.visuals.canvas import Box, Style, clean, length, runs, wrap, write
from rpo_cli.visuals.contact_sheet import (
    AMBER,
    GREEN,
    SIDE,
    Scored,
    SheetRow,
    changed,
    choose,
    draw,
    fitted,
)

HOSTILE = [
    "line\nbreak\r\ttab \x00 nul \x1b[31mred\x1b[0m bell\x07",
    "\u202eright to left override\u202c \u2066isolate\u2069 \u200bzero width",
    "w" * 50_000,
    "word " * 50_000,
    "a" + "\u0301" * 5_000 + " stacked marks",
    "\U0001f600 emoji, 中文, عربي, \ud800 a lone surrogate",
    "",
    " \n\t ",
]


ACCEPTED = ("edit_won", "reversed", "counter_lost", "seed_won")


def pair(number, reason="edit_won", *, kind="edit", prompt=None, **changes):
    verdict = "accepted" if reason in ACCEPTED else "dropped"
    margin = -1.5 if reason in ("reversed", "counter_lost") else 1.5
    fields = {
        "pair_id": content_key(number),
        "prompt_id": "p",
        "prompt": prompt if prompt is not None else f"prompt {number}",
        "pair_kind": kind,
        "a_id": "a",
        "b_id": "b",
        "a_sha256": "a",
        "b_sha256": "b",
        "critique_id": "c",
        "instruction": "make it red",
        "tries": 1,
        "rewards_a": {"clip": 0.1},
        "rewards_b": {"clip": 0.2},
        "margins": {"clip": margin},
        "margin": margin,
        "agreement": 1.0,
        "dispersion": None,
        "change": 0.1,
        "hash_distance": 9,
        "verdict": verdict,
        "reason": reason,
        "winner": None if verdict == "dropped" else "a" if margin < 0 else "b",
        "split": "train",
    }
    return Pair(**{**fields, **changes})


def judged(number, reason="edit_won", **changes):
    row = pair(number, reason, **changes)
    return Scored(row.pair_id, row.pair_kind, row.prompt, row.verdict, row.reason)


def shown(row, *, critique="", flaws=("colour: it is blue",), size=(64, 64)):
    return SheetRow(
        row, Image.new("RGB", size, "#102030"), Image.new("RGB", size, "#302010"), critique, flaws
    )


def sheet(*rows):
    return draw(rows, title="runs/demo", counts={"images": 4, "pairs": 2})


def count(page, colour):
    return int((np.asarray(page) == ImageColor.getrgb(colour)).all(axis=2).sum())


def test_the_choice_shows_won_reversed_and_dropped_pairs_of_different_reasons():
    pairs = [judged(n) for n in range(50)] + [judged(n, "reversed") for n in range(50, 90)]
    pairs += [judged(n, reason) for n, reason in enumerate(["unchanged"] * 50 + ["inside_band"], 90)]
    chosen = choose(pairs)
    assert [row.reason for row in chosen[:6]] == ["edit_won"] * 4 + ["reversed"] * 2
    assert {row.reason for row in chosen[6:]} == {"unchanged", "inside_band"}


def test_the_choice_does_not_depend_on_order_and_prefers_new_prompts():
    pairs = [judged(n, prompt="the same prompt") for n in range(30)]
    pairs += [judged(n, prompt=f"other {n}") for n in range(30, 33)]
    shuffled = random.Random(0).sample(pairs, len(pairs))
    assert choose(pairs, 4) == choose(shuffled, 4)
    assert len({row.prompt for row in choose(pairs, 4)}) == 4


def test_a_short_kind_leaves_its_room_to_the_others():
    assert len(choose([judged(n) for n in range(20)])) == 8
    assert len(choose([judged(n, "unchanged") for n in range(3)])) == 3
    assert choose([]) == []


def test_pairs_of_edits_come_before_pairs_of_seeds():
    pairs = [judged(n, "seed_won", kind="seeds") for n in range(9)] + [judged(n) for n in range(9, 11)]
    assert sum(row.pair_kind == "edit" for row in choose(pairs, 4)) == 2


def test_counter_edits_come_after_edits_as_originals_that_won_and_say_what_they_are():
    pairs = [judged(n, "counter_lost", kind="counter") for n in range(9)]
    pairs += [judged(n, "seed_won", kind="seeds") for n in range(9, 18)] + [judged(18, "reversed")]
    assert [row.pair_kind for row in choose(pairs, 3)] == ["seeds", "seeds", "edit"]
    assert [row.pair_kind for row in choose(pairs[:-1], 3)] == ["seeds", "seeds", "counter"]

    answered, counter = (
        sheet(shown(pair(1, reason, kind=kind)))
        for kind, reason in (("edit", "reversed"), ("counter", "counter_lost"))
    )
    assert count(counter, AMBER) > 3_000
    assert not np.array_equal(np.asarray(answered), np.asarray(counter))


def test_only_the_winner_is_outlined_in_the_colour_of_its_verdict():
    """The frame is a 202-pixel square of 5-pixel lines: about 4,000 pixels; text has far fewer."""
    for reason, mine, other in (("edit_won", GREEN, AMBER), ("reversed", AMBER, GREEN)):
        page = sheet(shown(pair(1, reason)))
        assert count(page, mine) > 3_000
        assert count(page, other) < 1_000
    dropped = sheet(shown(pair(1, "unchanged")))
    assert count(dropped, AMBER) < 1_000
    assert count(dropped, GREEN) < 3_000  # its reward bar


def test_the_sheet_grows_by_one_equal_row_per_pair():
    heights = [sheet(*[shown(pair(n)) for n in range(rows)]).height for rows in (1, 2, 3)]
    assert heights[2] - heights[1] == heights[1] - heights[0] > 192


def test_equal_rows_give_equal_pixels():
    rows = [shown(pair(n)) for n in range(2)]
    assert np.array_equal(np.asarray(sheet(*rows)), np.asarray(sheet(*rows)))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_in_its_box(text):
    page = Image.new("RGB", (300, 200), "white")
    write(page, Box(50, 50, 120, 60), text, Style(17, "black", lines=9))
    outside = np.asarray(page).copy()
    outside[50:110, 50:170] = 255
    assert (outside == 255).all()


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_does_not_reach_the_drawer(text):
    assert clean(text).isprintable()
    style = Style(17, "black", lines=3)
    lines = wrap(text, style, 120)
    assert len(lines) <= 3
    assert all(length(line, 17) <= 120 for line in lines)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_row_of_hostile_text_is_drawn_at_the_usual_size(text):
    text = text.replace("\ud800", "")  # a surrogate cannot stand in a row
    row = pair(1, prompt=text, instruction=text, margins={text or "r": 1.5})
    row = row.model_copy(update={"rewards_a": {text or "r": 0.1}, "rewards_b": {text or "r": 0.2}})
    assert sheet(shown(row, critique=text, flaws=(text,))).size == sheet(shown(pair(1))).size


@pytest.fixture
def bare(monkeypatch):
    """A machine without any font of its own."""
    monkeypatch.setattr(canvas, "FALLBACKS", ())
    canvas.others.cache_clear()
    yield
    canvas.others.cache_clear()


def test_accents_are_dropped_where_no_font_has_their_letters(bare):
    assert clean("café Zoë, naïve") == "cafe Zoe, naive"
    assert runs("красный круг") == [(None, "красный круг")]  # boxes, but in their place


def test_letters_that_the_bundled_font_lacks_are_drawn_by_the_machines_own(monkeypatch):
    """Each word in one font that has all of its letters; Hebrew words keep their order, and their space."""
    try:
        dejavu = str(ImageFont.truetype("DejaVuSans.ttf", 16).path)
    except OSError:
        pytest.skip("no DejaVuSans.ttf on this machine: apt-get install fonts-dejavu-core")
    monkeypatch.setattr(canvas, "FALLBACKS", ("nowhere.ttf", "DejaVuSans.ttf"))
    canvas.others.cache_clear()
    try:
        assert clean("café\u202e Zoë") == "café Zoë"
        assert clean("cafe\u0301") == "café"
        assert runs("a red café") == [(None, "a red "), (dejavu, "café")]
        assert runs("שלום עולם a") == [(dejavu, "שלום עולם"), (None, " a")]
        assert runs("café שלום") == [(dejavu, "café שלום")]
        pages = [Image.new("RGB", (120, 30), "white") for _ in "ab"]
        for page, text in zip(pages, ("круг", "лево"), strict=True):
            write(page, Box(0, 0, 120, 30), text, Style(17, "black"))
        assert not np.array_equal(*map(np.asarray, pages))  # letters, not boxes
    finally:
        canvas.others.cache_clear()


def test_plain_text_is_one_piece_of_the_bundled_font():
    """So that a sheet in its letters has the same bytes on every machine."""
    assert runs("a red circle “quoted”…") == [(None, "a red circle “quoted”…")]


def test_a_letter_keeps_two_marks_at_most():
    assert len(clean("a" + "\u0308" * 40)) <= 3


def test_text_that_fits_is_shown_whole_and_longer_text_ends_in_an_ellipsis():
    style = Style(17, "black", lines=2)
    assert wrap("a red circle", style, 200) == ["a red circle"]
    long = wrap("one two three four five six seven eight nine ten", style, 120)
    assert len(long) == 2
    assert long[-1].endswith("…")
    assert "".join(wrap("x" * 60, Style(17, "black", lines=20), 100)) == "x" * 60


@pytest.mark.parametrize("size", [(1, 1), (2000, 10), (10, 2000), (512, 512)])
def test_pictures_of_any_shape_fit_their_frame(size):
    assert sheet(shown(pair(1), size=size)).size == sheet(shown(pair(1))).size


def test_a_pair_without_critique_scores_or_flaws_is_drawn():
    bare = pair(1, "unscored", instruction=None, rewards_a={}, rewards_b={}, margins={}, margin=0.0)
    assert sheet(shown(bare, flaws=()), shown(pair(2, "seed_won", kind="seeds"), flaws=())).width > 1000


def scene(colour, size=(64, 64), box=(20, 20, 39, 39)):
    page = Image.new("RGB", size, "#808080")
    ImageDraw.Draw(page).rectangle(box, fill=colour)
    return page


def test_the_outline_stands_around_what_changed_and_nowhere_else():
    page, share = changed(scene("red"), scene("blue"))
    pixels = np.asarray(page.convert("L"))
    scale = page.width // 64
    rows, columns = np.nonzero(pixels == 0)

    assert rows.min() // scale >= 14
    assert columns.max() // scale <= 45
    assert (pixels[: 12 * scale] == pixels[0, 0]).all()
    assert pixels[30 * scale, 30 * scale] != 0  # inside the region the picture is seen
    assert 20 * 20 / 64**2 <= share <= 26 * 26 / 64**2


def test_equal_pictures_have_no_outline():
    page, share = changed(scene("red"), scene("red"))

    assert share == 0
    assert not (np.asarray(page) == 0).any()


def test_faint_noise_is_no_change():
    noisy = np.asarray(scene("red")).astype(int) + np.random.default_rng(0).integers(-8, 9, (64, 64, 3))

    assert changed(scene("red"), Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))[1] == 0


@pytest.mark.parametrize("size", [(1, 1), (2000, 10), (700, 900)])
def test_pictures_of_any_shape_are_compared_at_the_size_they_are_shown(size):
    page, share = changed(scene("red"), Image.new("RGB", size, "white"))

    assert max(page.size) <= SIDE
    assert 0 <= share <= 1


def test_pictures_are_shrunk_never_enlarged():
    assert fitted(Image.new("RGB", (1024, 512))).size == (SIDE, SIDE // 2)
    assert fitted(Image.new("RGB", (64, 32))).size == (64, 32)
