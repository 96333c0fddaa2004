"""Errors of libraries as errors of ours: the first case that fits, its words, and nothing else touched."""

import errno
import http.client
import os
import subprocess
import sys

import pytest

from rpo_cli.errors import Case, RpoError, StorageError, UsageError, first_line, is_of_system, translated

CASES = (
    Case(["http.client.IncompleteRead"], "{where}: cut short", "read {what} again", UsageError),
    Case([FileNotFoundError], "{where}: gone", "look for it"),
    Case([OSError], "{where}: {system}", "see the disk", StorageError, is_of_system),
    Case([OSError, "http.client.HTTPException"], "{where}: {kind}: {why}", "try again"),
)


def error_of(error, cases=CASES, where="place", **facts):
    with pytest.raises(RpoError) as caught, translated(*cases, where=where, **facts):
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("error", "kind", "message", "hint"),
    [
        (http.client.IncompleteRead(b""), UsageError, "place: cut short", "read it again"),
        (http.client.BadStatusLine("odd"), RpoError, "place: BadStatusLine: odd", "try again"),
        (FileNotFoundError(errno.ENOENT, "no"), RpoError, "place: gone", "look for it"),
        (PermissionError(errno.EACCES, "x"), StorageError, "place: Permission denied", "see the disk"),
        (OSError("of a library\nwith more"), RpoError, "place: OSError: of a library", "try again"),
        (OSError(), RpoError, "place: OSError: OSError", "try again"),
    ],
)
def test_the_first_case_that_fits_says_what_an_error_of_a_library_is(error, kind, message, hint):
    found = error_of(error, what="it")

    assert (type(found), found.message, found.hint) == (kind, message, hint)
    assert found.__cause__ is error


@pytest.mark.parametrize("error", [ValueError("ours to see"), KeyError("x"), RpoError("two", "lines")])
def test_what_no_case_fits_is_raised_as_it_is(error):
    with pytest.raises(type(error)) as caught, translated(*CASES, where="place"):
        raise error

    assert caught.value is error


def test_braces_in_names_and_in_what_a_library_says_are_no_fields():
    found = error_of(OSError("{why} {0} {nobody}"), where="{folder}/{kind}")

    assert found.message == "{folder}/{kind}: OSError: {why} {0} {nobody}"


def test_facts_of_the_exception_stand_beside_those_of_the_caller():
    case = Case(
        [ImportError],
        "{where}: needs {package}",
        "pip install {package}",
        facts=lambda e: {"package": e.name},
    )

    found = error_of(ImportError("no", name="thing"), [case])

    assert (found.message, found.hint) == ("place: needs thing", "pip install thing")


def test_a_class_is_looked_for_by_name_and_nothing_is_imported_for_it():
    code = """
import sys
from rpo_cli.errors import Case, translated
try:
    with translated(Case(["xmlrpc.client.Fault"], "x", "y"), where="z"):
        raise ValueError
except ValueError:
    sys.exit("xmlrpc.client" in sys.modules)
"""
    own = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=own, check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [("one\ntwo", "one"), ("\n\n  first  \nsecond", "first"), ("", "ValueError"), ("   \n", "ValueError")],
)
def test_the_first_line_of_an_error_is_told_and_its_name_where_it_says_nothing(text, line):
    assert first_line(ValueError(text)) == line


def test_what_a_server_says_is_told_before_the_address_that_it_was_told_at():
    error = OSError("403 Client Error for https://somewhere/secret")
    error.server_message = f" No write access\nfor you {'x' * 400}"

    assert first_line(error) == "No write access"
