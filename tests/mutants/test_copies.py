"""A break is made in a copy, tried, and mended whatever comes of it."""

import importlib.util

import pytest

from tests.mutants.copies import Copy
from tests.mutants.listed import Mutant

MUTANT = Mutant("one is two", "one.py", "a = 1", "a = 2", ("test_one.py::test_it",))


@pytest.fixture
def copy(tmp_path):
    made = Copy(tmp_path)
    made.tree.mkdir()
    (made.tree / "one.py").write_text("a = 1\n")
    return made


@pytest.mark.parametrize(
    ("code", "hangs", "verdict"),
    [
        (0, False, "SURVIVED"),
        (1, False, "caught"),
        (2, False, "error"),  # a test that cannot be collected has noticed nothing
        (4, False, "error"),
        (5, False, "error"),
        (None, False, "error"),
        (None, True, "caught"),
    ],
)
def test_only_tests_that_failed_have_noticed(copy, monkeypatch, code, hangs, verdict):
    seen = []

    def pytest_in(copy, tests):
        seen.append((tests, (copy.tree / "one.py").read_text()))
        return code, "its last words"

    monkeypatch.setattr(Copy, "pytest", pytest_in)
    result = copy.try_out(Mutant(**{**vars(MUTANT), "hangs": hangs}))

    assert seen == [(("test_one.py::test_it",), "a = 2\n")]
    assert (result.verdict, result.told) == (verdict, "its last words")
    assert (copy.tree / "one.py").read_text() == "a = 1\n"


def test_nothing_compiled_outlives_its_break(copy, monkeypatch):
    """A compiled module is told from another by size and second alone, which two breaks may share."""
    compiled = copy.tree / "__pycache__" / importlib.util.cache_from_source("one.py").rpartition("/")[2]
    compiled.parent.mkdir()
    compiled.write_bytes(b"of the module as it was")

    def pytest_in(copy, tests):
        assert not compiled.exists()
        compiled.write_bytes(b"of the broken module")
        raise KeyboardInterrupt

    monkeypatch.setattr(Copy, "pytest", pytest_in)
    with pytest.raises(KeyboardInterrupt):
        copy.try_out(MUTANT)

    assert not compiled.exists()
    assert (copy.tree / "one.py").read_text() == "a = 1\n"


def test_an_entry_that_no_longer_fits_runs_nothing(copy, monkeypatch):
    monkeypatch.setattr(Copy, "pytest", lambda copy, tests: pytest.fail("ran"))
    result = copy.try_out(Mutant(**{**vars(MUTANT), "old": "a = 3"}))
    assert (result.verdict, "stands 0 times" in result.told) == ("error", True)
