"""What `rpo show` prints, and pictures in a terminal."""

import io
import json
import os
import pty
import subprocess
import sys

import pytest
from PIL import Image
from rich.cells import cell_len
from rich.console import Console

from rpo_cli.cli.drawing import able, half_blocks
from rpo_cli.cli.show import chapter_text, folded
from rpo_cli.line.show import Chapter

EVIL = "[red]x[/red] \x1b[31mred\x1b[0m \u202eover\nimage 1234\n  verdict: accepted"


def printed(text):
    from rpo_cli.text import printable

    return printable(text)


def test_a_chapter_says_what_holds_something():
    chapter = Chapter(
        "image",
        "ab12",
        {"prompt_id": "p", "index": 0, "settings": "{}", "text": ""},
        {"clip": 2.5},
        asked=True,
    )

    assert chapter_text(chapter) == "image ab12 (asked for)\n  index: 0\n  scores: clip 2.5"


def test_hostile_text_shows_as_text_and_forges_no_field():
    """Markup stays, escape sequences and direction marks go, further lines are indented."""
    said = printed(chapter_text(Chapter("prompt", "p", {"prompt": EVIL})))

    assert said.splitlines() == [
        "prompt p",
        "  prompt: [red]x[/red] red over",
        "      image 1234",
        "        verdict: accepted",
    ]


def test_long_lines_are_broken_between_words_and_never_at_the_edge_of_a_terminal():
    """Wide characters too; a text that was made to fit the width cannot forge a field."""
    forged = "x" * 70 + " verdict: accepted " + "\u6f22" * 60
    text = f"pair 1\n  prompt: {forged}\n  margin: 1"
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80)

    lines = folded(text, terminal).split("\n")

    assert (lines[0], lines[-1]) == ("pair 1", "  margin: 1")
    assert all(cell_len(line) < 80 for line in lines)
    assert all(line.startswith(" " * 6) for line in lines[2:-1])
    assert "".join(" ".join(lines[1:-1]).split()) == "".join(f"prompt: {forged}".split())
    assert folded(text, Console(file=io.StringIO(), width=80)) == text


def test_a_picture_is_two_pixels_a_character_and_keeps_its_shape():
    """4 x 2 pixels: red above blue, one row of four blocks; a large one shrinks to the bound."""
    picture = Image.new("RGB", (4, 2), "red")
    picture.paste("blue", (0, 1, 4, 2))

    text = half_blocks(picture, 48, 24)

    assert text.plain == "▀▀▀▀"
    style = text.spans[0].style
    assert (style.color.triplet.hex, style.bgcolor.triplet.hex) == ("#ff0000", "#0000ff")
    lines = half_blocks(Image.new("RGB", (1024, 512)), 48, 24).plain.splitlines()
    assert (len(lines), len(lines[0])) == (12, 48)
    assert half_blocks(Image.new("RGB", (3, 3)), 48, 24).plain == "▀▀▀\n▀▀▀"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"force_terminal": True, "color_system": "truecolor"}, True),
        ({"force_terminal": False}, False),
        ({"force_terminal": True, "color_system": None}, False),
        ({"force_terminal": True, "color_system": "truecolor", "no_color": True}, False),
    ],
)
def test_only_a_terminal_with_colours_is_drawn_in(options, expected):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    assert able(Console(file=stream, _environ={}, **options)) == expected
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert not able(Console(file=ascii_only, _environ={}, **options))


@pytest.fixture
def made(rpo, place):
    rpo("generate", place.run, *place.options)
    rows = json.loads(rpo("show", place.run, "--json", first_image(place)).out)
    return place, rows


def first_image(place):
    from rpo_cli.store import open_store

    return min(open_store(place.run).keys("images"))


def test_json_holds_every_field_and_no_picture(made, rpo):
    _, rows = made
    assert [chapter["kind"] for chapter in rows["chapters"]] == ["prompt", "image"]
    assert rows["chapters"][1]["told"]["width"] == 16
    assert "picture" not in rows["chapters"][1]


def test_pictures_are_named_in_every_mode(made, rpo, tmp_path):
    place, _ = made
    key = first_image(place)
    for mode, out in (("", "picture: "), ("--quiet", "")):
        said = rpo("show", place.run, key, "--out", tmp_path / "out", *filter(None, [mode])).out
        assert f"{out}{tmp_path / 'out' / f'image-{key}.png'}\n" in said


def test_a_terminal_shows_the_picture_and_a_pipe_does_not(made):
    """A real pseudo-terminal: half blocks in colour; the same command into a pipe: none."""
    place, _ = made
    code = "import sys; from rpo_cli.cli.app import call; sys.exit(call(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "show", str(place.run), first_image(place)]
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONUTF8": "1"}
    environment.pop("NO_COLOR", None)
    piped = subprocess.run(command, capture_output=True, check=True, env=environment).stdout.decode()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(ours)

    assert process.wait() == 0
    assert ("▀" in piped, "▀" in seen.decode()) == (False, True)
    assert "\x1b[38;2;" in seen.decode()
