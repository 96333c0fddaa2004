"""README says what is true: every command stands in it or on a page, and its make targets exist.

Lines, links and settings of README and of the pages are read in tests/docs/, which also runs their blocks.
"""

import re

import pytest

from rpo_cli.cli.app import COMMANDS
from tests.docs.pages import PAGES, README, ROOT

TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
TARGETS = set(
    re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_readme_or_on_a_page(command):
    assert any(re.search(rf"\brpo {command}\b", text) for text in TEXTS.values())


@pytest.mark.parametrize("page", [*PAGES, ROOT / "tests/bench/README.md"], ids=lambda page: page.name)
def test_every_make_target_that_a_page_names_exists(page):
    named = set(re.findall(r"`make ([a-z-]+)|\$ make ([a-z-]+)", page.read_text(encoding="utf-8")))

    assert {name for names in named for name in names if name} - TARGETS == set()


def test_readme_begins_with_the_demo_and_the_tests():
    assert "`make demo`" in TEXTS[README]
    assert "`make test`" in TEXTS[README]
