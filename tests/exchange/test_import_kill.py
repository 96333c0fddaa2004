"""An import that is killed while it replaces what a source said before."""

import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from rpo_cli import open_line
from rpo_cli.files import Files
from rpo_cli.line.dataset.inputs import build_pairs
from rpo_cli.line.imports.run import import_source
from rpo_cli.line.imports.sources import imported

ONLY = {"pairs.strategy": "imported", "score.rewards": (), "pairs.val_fraction": 0.0}


def bring(run, source):
    return import_source(open_line(run, {"run.rows_per_part": 2}), Path(source))


def said(run):
    """The judgements that take part, and the pictures under their prompts."""
    line = open_line(run)
    images, votes = (line.store.fetch(table, imported(line, table)) for table in ("images", "preferences"))
    return {
        "images": sorted((row.prompt, row.sha256) for row in images),
        "votes": sorted((row.prompt, row.a_sha256, row.b_sha256, row.choice) for row in votes),
    }


VICTIM = """
import sys
from pathlib import Path
from rpo_cli import open_line
from rpo_cli.line.imports.run import import_source
for source in iter(sys.stdin.readline, ""):
    line = open_line(sys.argv[1], {"run.rows_per_part": 2})
    print("begun", flush=True)
    import_source(line, Path(source.strip()))
    print("done", flush=True)
"""


def victim(run):
    """A process that imports what it is told, its own imports behind it."""
    command = [sys.executable, "-c", VICTIM, str(run)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def rewritten(judged):
    """Labels, a prompt and a picture are others, a row is gone, two have come."""
    judged.put("5b.png", 500)
    for n in (20, 21):
        judged.put(f"{n}a.png", 600 + n)
        judged.put(f"{n}b.png", 700 + n)
    judged.say(["b" if n % 2 else "a" for n in range(22)], [f"prompt {n % 19}" for n in range(22)])
    judged.write.lines("pairs.jsonl", judged.rows[1:])


def tables(run):
    names = ("prompts", "images", "preferences", "rejects", "claims")
    files = [file for name in names for file in (Path(run) / name).rglob("part-*.parquet")]
    return {file.relative_to(run).as_posix(): file.read_bytes() for file in files}


@pytest.mark.slow
@pytest.mark.usefixtures("settled")
def test_a_replacement_killed_at_any_moment_ends_as_if_nothing_had_happened(tmp_path, judge):
    judged = judge(20)
    run = tmp_path / "run"
    bring(run, judged.root)
    shutil.copytree(run, tmp_path / "before")
    rewritten(judged)
    bring(run, judged.root)
    whole, taken = tables(run), said(run)
    kills = 0
    for wait in [0.0, 0.002, 0.004, 0.007, *(0.01 * n for n in range(1, 14))]:
        shutil.rmtree(run)
        shutil.copytree(tmp_path / "before", run)
        process = victim(run)
        process.stdin.write(f"{judged.root}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "begun\n"
        time.sleep(wait)
        process.kill()
        kills += "done" not in process.stdout.read()
        process.wait()
        build_pairs(open_line(run, ONLY))  # what is there can be read at any moment
        bring(run, judged.root)
        assert tables(run) == whole
        assert said(run) == taken
    assert kills >= 5


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("place", range(0, 24, 2))
def test_a_replacement_that_ends_after_any_write_or_delete_is_made_good(
    tmp_path, judge, monkeypatch, place
):
    judged = judge(6)
    run = tmp_path / "run"
    bring(run, judged.root)
    shutil.copytree(run, tmp_path / "whole")
    judged.say(["b", "a", "b"])
    bring(tmp_path / "whole", judged.root)
    left = [place]

    def counted(real):
        def act(*arguments):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*arguments)

        return act

    with monkeypatch.context() as during:
        for name in ("write", "delete"):
            during.setattr(Files, name, counted(getattr(Files, name)))
        with suppress(Killed):
            bring(run, judged.root)
    assert len(said(run)["votes"]) in range(3, 7)  # a chunk is as it was or as it is now
    bring(run, judged.root)
    assert tables(run) == tables(tmp_path / "whole")
    assert said(run) == said(tmp_path / "whole")
