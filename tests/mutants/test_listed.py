"""The list of breaks fits the tree; `make test-mutants` tries it."""

from pathlib import Path

import pytest

from tests.mutants.listed import Mutant, drawn, problems, read

LEAST = 45
FLOORS = {"line", "stages", "backends", "train", "exchange", "metrics", "visuals", "engines", "cli"}
PAPER = {"store", "files", "identity", "schema", "statistics", "templates", "resolve"}
GOOD = Mutant("one is two", "one.py", "a = 1", "a = 2", ("test_one.py::test_it[x]",))


def test_every_break_fits_its_file_and_every_test_that_should_notice_exists():
    assert list(problems(read())) == []


def test_the_list_is_long_enough_and_covers_every_floor():
    mutants = read()
    assert len(mutants) >= LEAST
    assert {Path(mutant.file).parts[1].removesuffix(".py") for mutant in mutants} >= FLOORS | PAPER


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "one.py").write_text("a = 1\nb = 2\nc = b\n")
    (tmp_path / "test_one.py").write_text("def test_it(x): ...\n")
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"old": "a = 3"}, "stands 0 times"),
        ({"old": "b"}, "stands 2 times"),
        ({"new": "a ="}, "makes no Python"),
        ({"new": "a = 1"}, "changes one line"),
        ({"old": "a = 1\nb"}, "changes one line"),
        ({"file": "two.py"}, "two.py"),
        ({"tests": ()}, "names no test"),
        ({"tests": ("test_one.py::test_other",)}, "no test test_one.py::test_other"),
        ({"tests": ("test_one.py",)}, "no test test_one.py"),
    ],
)
def test_a_stale_entry_is_told(tree, changed, said):
    found = list(problems([Mutant(**{**vars(GOOD), **changed})], tree))
    assert len(found) == (said is not None)
    assert all(said in one for one in found)


def test_a_name_stands_once(tree):
    assert list(problems([GOOD, GOOD], tree)) == ["one is two: stands 2 times in the list"]


def test_one_commit_draws_the_same_breaks_everywhere_and_another_draws_others():
    mutants = read()
    first = [mutant.name for mutant in drawn(mutants, 5, "a" * 40)]
    assert first == [mutant.name for mutant in drawn(mutants, 5, "a" * 40)]
    assert len(set(first)) == 5
    assert first != [mutant.name for mutant in drawn(mutants, 5, "b" * 40)]
