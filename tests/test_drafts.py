"""Drafts: writers that share a process number, as in containers, never meet; what is killed is cleared."""

import fcntl
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from rpo_cli.files import Files, create, draft_folder, draft_of, write_whole

DEAD = """
import sys
from pathlib import Path
from rpo_cli.files import draft_folder
with draft_folder(Path(sys.argv[1]), ".d-") as draft:
    (draft / "half").write_text("x")
    print(draft.name, flush=True)
    sys.stdin.read()
"""


def together(*actions):
    """Run actions beside each other in threads, which have one process number; raises what one raised."""
    with ThreadPoolExecutor(len(actions)) as pool:
        for running in [pool.submit(action) for action in actions]:
            running.result()


def test_writers_with_one_process_number_lose_no_write_and_no_read_is_torn(tmp_path):
    files, sizes = Files.at(tmp_path), set()
    contents = [bytes([letter]) * 200_000 for letter in b"ab"]
    files.write("run.json", contents[0])

    def read():
        for _ in range(300):
            data = files.read("run.json")
            sizes.add((len(data), len(set(data))))

    writers = [lambda data=data: [files.write("run.json", data) for _ in range(150)] for data in contents]
    together(*writers, read)
    assert sizes == {(200_000, 1)}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_draft_takes_nothing_that_stands_at_its_name(tmp_path):
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("there", "link"):
        with pytest.raises(FileExistsError):
            create(tmp_path / name)
    assert (tmp_path / "there").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_drafts_of_one_file_have_different_names_and_keep_the_users_mask(tmp_path):
    assert len({draft_of(tmp_path / "a.parquet") for _ in range(50)}) == 50
    old = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_draft_folder_clears_those_of_the_dead_and_none_of_the_living(tmp_path):
    start = [sys.executable, "-c", DEAD, str(tmp_path)]
    running = [
        subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    dead, alive = (process.stdout.readline().strip() for process in running)
    running[0].kill()
    running[0].wait()
    with draft_folder(tmp_path, ".d-") as draft:
        assert {path.name for path in tmp_path.iterdir()} == {alive, draft.name}
        assert dead != alive
    running[1].communicate("")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_lock_is_no_living_draft(tmp_path):
    (tmp_path / ".d-1234").mkdir()
    handle = os.open(tmp_path / ".d-1234", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.close(handle)
    with draft_folder(tmp_path, ".d-") as draft:
        assert [path.name for path in tmp_path.iterdir()] == [draft.name]
