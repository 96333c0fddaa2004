"""README and rpo_cli/docs/: every line is one that the command takes, and what the text names exists."""

import ast
import re

import pytest

from rpo_cli import registry
from rpo_cli.cli.app import COMMANDS, command_of
from rpo_cli.cli.options import settings_of_options
from rpo_cli.resolve import resolve
from rpo_cli.scopes import HANGS
from tests.docs import tables
from tests.docs.pages import DOCS, NEEDS, PAGES, README, ROOT, Block, blocks, calls
from tests.docs.rig import is_said

MOST_MARKED = 10
# command → section of its options
SECTIONS = {name: name for name in ("run", "generate", "critique", "edit", "train")} | {
    "build-pairs": "pairs"
}
ALL = [block for page in PAGES for block in blocks(page)]
THEIRS = DOCS / "extending.md"  # names of packages that test_extending.py installs
CONSOLE = [block for block in ALL if block.language == "console" and block.page != THEIRS]
LINKED = [*PAGES, ROOT / "rpo_cli" / "README.md", ROOT / "tests" / "bench" / "README.md"]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}


def lines_of(found: list[Block]) -> list[tuple[Block, list[str]]]:
    """The calls of rpo in blocks, but those that are shown because they are wrong."""
    return [
        (block, words)
        for block in found
        for command in block.commands()
        for words in calls(command.text)
        if command.code != 2
    ]


@pytest.mark.parametrize(
    ("block", "words"), [pytest.param(b, w, id=f"{b} {' '.join(w)}"[:80]) for b, w in lines_of(CONSOLE)]
)
def test_every_line_is_one_that_the_command_takes(block, words):
    """Its command, options, types and choices, and settings by name and value."""
    name, *rest = words
    context = command_of(name).make_context(name, rest)
    if name in SECTIONS:
        resolve(settings_of_options(SECTIONS[name], context.params), preset=context.params.get("preset"))


def test_at_most_ten_blocks_are_not_run():
    marked = [block for block in ALL if block.needs]

    assert {block.needs for block in ALL if block.needs} <= NEEDS
    assert len(marked) <= MOST_MARKED, "\n".join(map(str, marked))


def test_python_that_is_not_run_is_python():
    for block in ALL:
        if block.language == "python":
            compile("\n".join(block.lines), str(block), "exec")


def test_every_fence_says_what_it_holds():
    assert {block.language for block in ALL} <= {"console", "python", "toml", "text", ""}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_inside_the_text_exist(page):
    for text in re.findall(r"(?<!`)`(rpo [^`]+)`", TEXTS[page]):
        for words in calls(text):
            name = next((word for word in words if not word.startswith("-")), None)
            if name in (None, "COMMAND"):
                continue
            assert name in COMMANDS, text
            known = {
                flag for param in command_of(name).params for flag in (*param.opts, *param.secondary_opts)
            }
            asked = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
            assert asked - {"--help", "--help-all"} <= known, text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_the_text_names_exist(page):
    sections = "run|prompts|generate|critique|edit|score|pairs|rounds|train|online"
    settings = resolve({}).settings.model_dump()
    named = re.findall(rf"`({sections})\.([a-z_]+)(?: = [^`]*|=[^`]*)?`", TEXTS[page])

    assert [f"{s}.{key}" for s, key in named if key not in {*settings[s], "txt"}] == []


def test_every_page_is_reached_from_the_first():
    first = (DOCS / "README.md").read_text(encoding="utf-8")

    assert [page.name for page in DOCS.glob("*.md") if f"]({page.name}" not in first] == ["README.md"]
    assert "](rpo_cli/docs/README.md)" in TEXTS[README]


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if heading:
            assert heading in headings(target.read_text(encoding="utf-8")), link


def headings(text: str) -> set[str]:
    """As GitHub names them in a link."""
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_readme_is_short():
    assert len(TEXTS[README].splitlines()) <= 140


def test_docs_ship_with_the_package():
    assert ROOT / "rpo_cli" in DOCS.parents
    assert registry.__file__.startswith(str(ROOT / "rpo_cli"))


def test_what_is_shown_is_compared_by_line_and_gaps():
    said = "rate  3.5 rows/s\nnext: rpo eval demo\n"

    assert is_said("rate … rows/s", said)
    assert is_said("  next: rpo eval demo", said)
    assert not is_said("next: rpo eval", said)


def test_every_message_of_troubleshooting_is_one_of_the_product():
    """The words between the gaps of the first column stand in the source's texts."""
    texts = "\n".join(strings())
    told = re.findall(
        r"^\| `([^`]+)`", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    parts = [part for message in told for part in message.split("…") if len(part) > 3]

    assert len(told) > 30
    assert [part for part in parts if part.strip() not in texts] == []


def strings():
    """Every constant text of the package; those of an f-string one by one."""
    for file in (ROOT / "rpo_cli").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_tables_of_the_methods_are_those_of_the_registry():
    text = tables.PAGE.read_text(encoding="utf-8")

    assert tables.filled(text) == text, "python -m tests.docs.tables writes them"
    count = len(registry.names("objectives"))
    assert f"takes one of {count}." in text
    assert f"[{count} training methods]" in TEXTS[README]


def test_the_page_of_settings_says_of_everything_that_falls_with_what():
    """A row for each entry of `scopes.HANGS`."""
    page = TEXTS[DOCS / "runs-and-settings.md"]
    table = page[page.index("## What falls with what") :].split("\n\n")[2]
    rows = [row for row in table.splitlines() if row.startswith("| ")][1:]

    assert len(rows) == len(HANGS)
