"""What stands in README.md and rpo_cli/docs/: fenced blocks, their marks, and the command lines in them.

A mark is an HTML comment on the line before a block, which no reader sees:

<!-- needs: hub -->      not run, its lines are only parsed; also gpu or browser
<!-- smaller: WORDS -->  the test adds these words to the block's first command, so that it is done sooner
<!-- file: NAME -->      the block is the text of this file of the page's folder
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "rpo_cli" / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
MARK = re.compile(r"<!-- (needs|smaller|file): (.+?) -->")
FENCE = "```"
NEEDS = {"hub", "gpu", "browser"}
CODE = re.compile(r"\s+# exit (\d+)\b")


@dataclass(frozen=True)
class Command:
    """A line that begins with "$ ", the exit code that it must have, and the output shown below it."""

    text: str
    code: int = 0
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """A fenced block: `line` is that of its fence."""

    page: Path
    line: int
    language: str
    lines: tuple[str, ...]
    marks: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def needs(self) -> str:
        return self.marks.get("needs", "")

    def commands(self) -> list[Command]:
        """Of a console block, in order; a line that ends in a backslash goes on in the next."""
        found: list[list[str]] = []
        shown: list[list[str]] = []
        open_ended = False
        for line in self.lines:
            if open_ended:
                found[-1].append(line)
            elif line.startswith("$ "):
                found.append([line[2:]])
                shown.append([])
            elif line.strip():
                assert found, f"{self}: output before any command"
                shown[-1].append(line)
            open_ended = bool(found) and found[-1][-1].endswith("\\") and not shown[-1]
        return [_command("\n".join(text), tuple(out)) for text, out in zip(found, shown, strict=True)]


def _command(text: str, shown: tuple[str, ...]) -> Command:
    code = CODE.search(text)
    return Command(text, int(code[1]) if code else 0, shown)


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page with its marks."""
    found: list[Block] = []
    marks: dict[str, str] = {}
    inside: list[str] | None = None
    language, began = "", 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if inside is not None:
            if line == FENCE:
                found.append(Block(page, began, language, tuple(inside), marks))
                inside, marks = None, {}
            else:
                inside.append(line)
        elif line.startswith(FENCE):
            inside, language, began = [], line.removeprefix(FENCE), number
        elif mark := MARK.fullmatch(line):
            marks[mark[1]] = mark[2]
        elif line.strip():
            assert not marks, f"{page.name}:{number}: a mark before no block"
    assert inside is None, f"{page.name}:{began}: never ends"
    return found


def calls(text: str) -> Iterator[list[str]]:
    """The words after `rpo`, of each time that a shell line calls it."""
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    call: list[str] | None = None
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;<>"):
            if call:
                yield call
            call = None
        elif call is not None:
            call.append(word)
        elif word == "rpo":
            call = []
