"""Resume after kill -9: what a commit acknowledged is there, and the end is that of an undisturbed run."""

import os
import subprocess
import sys
import textwrap

import pytest

from rpo_cli.records import Image, ImageData, content_key
from rpo_cli.store import open_store

pytestmark = pytest.mark.slow
KILLS = 20
ROWS_PER_PART = 5
PARTS = 12

# Imports once, then forks the processes it kills: a process per kill would spend its life on imports.
NURSERY = """
    import os, random, signal, sys, time
    sys.path.insert(0, {tests!r})
    import pyarrow
    from test_store_resume import *

    pyarrow.array([""])  # imports pandas, here and not in every child
    moments = random.Random(7)

    def start(work):
        child = os.fork()
        if child == 0:
            work()
            os._exit(0)
        return child

    def seconds(work):
        began = time.monotonic()
        os.waitpid(start(work), 0)
        return time.monotonic() - began

    def kill_within(span, work):
        # the next span is such that about half the kills come in time
        child = start(work)
        time.sleep(moments.uniform(0, span))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        return span * 1.5 if os.WIFSIGNALED(status) else span / 1.5
"""


def image(number):
    data = content_key("bytes", number).encode() * 300
    return Image(
        image_id=content_key("image", number),
        prompt_id=content_key("prompt", number // 2),
        prompt=f"a red circle, number {number}",
        index=number % 2,
        seed=number,
        sha256=content_key("sha", number),
        width=64,
        height=64,
        image=ImageData(bytes=data),
        batch_size=8,
        settings="{}",
        environment="{}",
    )


def part_of(number):
    return [image(number * ROWS_PER_PART + row) for row in range(ROWS_PER_PART)]


def commit_all(run, acknowledged, first):
    """Commit part after part; a line in `acknowledged` says that a commit has returned."""
    store = open_store(run, create=True)
    file = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(first, first + PARTS):
        store.commit("images", part_of(number), group="settings")
        os.write(file, f"{number}\n".encode())


def nursery(script, **values):
    """Run `script` after NURSERY in a fresh interpreter."""
    text = textwrap.dedent(NURSERY) + textwrap.dedent(script)
    subprocess.run(
        [sys.executable, "-c", text.format(tests=os.path.dirname(__file__), **values)],
        check=True,
    )


def stored(run):
    """key → row of a table, checking that readers meet every key exactly once."""
    store = open_store(run, create=True)
    scanned = [key for table in store.scan("images", ["image_id"]) for key in table[0].to_pylist()]
    assert len(scanned) == len(set(scanned))
    rows = {row.key: row for row in store.fetch("images", store.keys("images"))}
    assert rows.keys() == set(scanned)
    return rows


def test_a_commit_that_is_killed_is_whole_or_absent(tmp_path):
    run, acknowledged = tmp_path / "run", tmp_path / "acknowledged"
    nursery(
        """
        def work(turn):
            return lambda: commit_all({run!r}, {acknowledged!r}, turn * {parts})

        span = seconds(work({kills}))
        for turn in range({kills}):
            span = kill_within(span, work(turn))
        """,
        kills=KILLS,
        parts=PARTS,
        run=str(run),
        acknowledged=str(acknowledged),
    )
    returned = {int(line) for line in acknowledged.read_text().split()}
    assert PARTS < len(returned) < (KILLS + 1) * PARTS  # some commits were cut off, some were not
    rows = stored(run)
    expected = {row.key: row for number in returned for row in part_of(number)}
    # what a commit acknowledged is there; of what was in flight, a part's rows are all there or none
    assert {key: rows[key] for key in expected} == expected
    assert len(rows) % ROWS_PER_PART == 0
    assert len(expected) <= len(rows) <= len(expected) + KILLS * ROWS_PER_PART


def test_work_killed_again_and_again_ends_with_the_files_of_one_undisturbed_run(tmp_path):
    nursery(
        """
        def missing(run):
            store = open_store(run, create=True)
            for number in range({parts}):
                if not {{row.key for row in part_of(number)}} <= store.keys("images"):
                    store.commit("images", part_of(number))

        span = seconds(lambda: missing({undisturbed!r})) / 3  # several kills before all is there
        for _ in range({kills}):
            span = kill_within(span, lambda: missing({killed!r}))
        missing({killed!r})
        """,
        kills=KILLS,
        parts=PARTS,
        killed=str(tmp_path / "killed"),
        undisturbed=str(tmp_path / "undisturbed"),
    )
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert stored(tmp_path / "killed") == {row.key: row for n in range(PARTS) for row in part_of(n)}


def contents(run):
    """name → bytes of what any tool takes for a part: some globs match hidden names, so `rglob` does."""
    return {path.name: path.read_bytes() for path in (run / "images").rglob("*.parquet")}
