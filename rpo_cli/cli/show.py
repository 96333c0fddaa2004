"""`rpo show`: one row's whole story."""

import json as json_text
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from rpo_cli.cli import options as o
from rpo_cli.cli import step

if TYPE_CHECKING:
    from rpo_cli.line.show import Chapter

INDENT = " " * 6  # of further lines of a text
# told by --json only: they say how a row was made, not what came of it
SMALL_PRINT = {"settings", "environment", "batch_size", "sha256", "image_sha256", "a_sha256", "b_sha256"}


def show(
    context: typer.Context,
    run: o.ExistingRun,
    key: Annotated[str, typer.Argument(metavar="ID", help="Of any row, or a beginning that is unique.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the pictures of the story there.", show_default=False),
    ] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Tell a row's story: prompt, image, critique, edits, scores, pairs, and why it ended there.

    Example: rpo show demo 3fa9 --out pictures
    """
    from rpo_cli.cli.drawing import draw  # numpy
    from rpo_cli.line.show import extract, story

    say = step.console(context)
    found = story(run, key)
    files = extract(found, out) if out is not None else []
    if say.mode != "human":
        plain = [{k: v for k, v in vars(chapter).items() if k != "picture"} for chapter in found.chapters]
        say.result({"chapters": plain, "files": files}, "", essence="\n".join(map(str, files)))
        return
    for number, chapter in enumerate(found.chapters):
        text = folded(chapter_text(chapter))
        say.result(None, f"\n{text}" if number else text)
        if chapter.picture is not None:
            draw(chapter.picture)
    say.result(None, "\n".join(f"picture: {file}" for file in files))
    step.status(say, run)


def folded(text: str, console: Console | None = None) -> str:
    """Long lines broken between words as wide as the terminal and indented; as they are in a file or pipe.

    A terminal breaks within words, and at its left edge, where a long text could look like a field of ours.
    """
    console = console or Console(file=sys.stdout)
    if not console.is_terminal:
        return text
    lines = []
    for line in text.split("\n"):
        first, *rest = Text(line).wrap(console, max(20, console.width - len(INDENT) - 1))
        lines += [first.plain, *(f"{INDENT}{more.plain}" for more in rest)]
    return "\n".join(line.rstrip() for line in lines)


def chapter_text(chapter: "Chapter") -> str:
    """A heading, then a line per field that holds something; further lines of a text are indented."""
    marks = "".join((" (asked for)" if chapter.asked else "", " (older settings)" if chapter.older else ""))
    lines = [f"{chapter.kind} {chapter.id}{marks}"]
    # the prompt's own chapter comes first
    repeated = {"prompt", "prompt_id"} if chapter.kind != "prompt" else set()
    fields = {name: value for name, value in chapter.told.items() if name not in SMALL_PRINT | repeated}
    if chapter.scores:
        fields["scores"] = chapter.scores
    for name, value in fields.items():
        if value not in (None, "", [], (), {}):
            lines.append(f"  {name}: {_text(value)}")
    return "\n".join(lines)


def _text(value: Any) -> str:
    """A value on one line, or several that are all indented: no text can look like a field of ours."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_item(inner) for inner in value)
    return f"\n{INDENT}".join(str(value).splitlines())


def _item(value: Any) -> str:
    if isinstance(value, Mapping) and set(value) == {"aspect", "detail"}:
        return f"{value['aspect']}: {_text(value['detail'])}"
    return json_text.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else _text(value)
