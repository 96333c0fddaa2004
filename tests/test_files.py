"""Files are whole or absent, also when the disk is full or may not be written to."""

import contextlib
import errno
import fcntl
import os
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rpo_cli.errors import StorageError, disk_errors
from rpo_cli.files import Files, create, draft_folder, draft_of, write_whole
from rpo_cli.records import Prompt
from rpo_cli.store import Store, open_store


def rows(start: int, count: int, size: int = 1000) -> list[Prompt]:
    """Rows that zstd cannot make smaller than half."""
    return [
        Prompt(prompt_id=f"key {n:05}", prompt=random.Random(n).randbytes(size // 2).hex(), source="test")
        for n in range(start, start + count)
    ]


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_write_makes_folders_and_leaves_no_temporary_file(tmp_path):
    files = Files.at(tmp_path / "new" / "run")
    files.write("a/b/c.parquet", b"one")
    files.write("a/b/c.parquet", b"two")

    assert files.read("a/b/c.parquet") == b"two"
    assert names(tmp_path) == {"new/run/a/b/c.parquet"}
    assert files.find("a", ".parquet") == {"a/b/c.parquet": 3}
    assert files.find("nothing here", ".parquet") == {}


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """fsync of the content, then the name, then fsync of the folder; new folders are synced too."""
    order = []
    fsync, replace = os.fsync, Path.replace

    def spy_fsync(descriptor):
        order.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def spy_replace(self, target):
        order.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    Files.at(tmp_path).write("table/part.parquet", b"data")

    part = tmp_path / "table" / "part.parquet"
    new, data, named, folder = order
    assert (new, data, folder) == tuple(path.stat().st_ino for path in (tmp_path, part, part.parent))
    assert named == "name"


def test_deleting_a_file_that_is_gone_is_no_error(tmp_path):
    Files.at(tmp_path).delete("table/part.parquet")


def refused(run: Store, wanted: list[Prompt], words: str) -> StorageError:
    """The commit fails in two lines, leaves no temporary file, and what was there is still there."""
    keys = run.keys("prompts")
    folder = Path(run.files.root)
    before = names(folder)
    with pytest.raises(StorageError, match=words) as caught:
        run.commit("prompts", wanted)
    assert "\n" not in caught.value.message + caught.value.hint
    assert str(folder) in caught.value.message
    assert names(folder) == before
    assert open_store(folder, create=True).keys("prompts") == keys
    return caught.value


def injected(monkeypatch, number: int, at: str) -> None:
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(at, fail)


@pytest.mark.parametrize("at", ["os.fsync", "pathlib.Path.replace", "rpo_cli.files.create"])
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "no permission to write"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_commit_that_the_disk_refuses_loses_nothing(tmp_path, monkeypatch, number, words, at):
    run = open_store(tmp_path, create=True)
    run.commit("prompts", rows(0, 5))

    injected(monkeypatch, number, at)
    refused(run, rows(5, 5), words)
    monkeypatch.undo()

    run.commit("prompts", rows(5, 5))
    assert run.keys("prompts") == {row.key for row in rows(0, 10)}


@contextlib.contextmanager
def tiny_disk(folder: Path):
    """A real file system of 1 MB; None where this process may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "rpo-test", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_the_same_commit_works_when_there_is_space(tmp_path, monkeypatch):
    """On a real disk of 1 MB where one can be mounted; with an injected error elsewhere."""
    with tiny_disk(tmp_path / "disk") as disk:
        run = open_store((disk or tmp_path) / "run", create=True)
        run.commit("prompts", rows(0, 100))
        ballast = (disk or tmp_path) / "ballast"
        if disk:
            ballast.write_bytes(bytes(600_000))
        else:
            injected(monkeypatch, errno.ENOSPC, "os.fsync")

        error = refused(run, rows(100, 900), "the disk is full")
        assert "free some space" in error.hint

        monkeypatch.undo()
        ballast.unlink(missing_ok=True)
        run.commit("prompts", rows(100, 900))
        assert run.keys("prompts") == {row.key for row in rows(0, 1000)}


def test_a_read_only_disk_is_told_and_still_read(tmp_path, monkeypatch):
    """Mounted read-only where that can be done; with an injected error elsewhere."""
    with tiny_disk(tmp_path / "disk") as disk:
        run = open_store((disk or tmp_path) / "run", create=True)
        run.commit("prompts", rows(0, 5))
        if disk:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        else:
            injected(monkeypatch, errno.EROFS, "rpo_cli.files.create")

        refused(run, rows(5, 5), "the file system is read-only")
        if disk:
            with pytest.raises(StorageError, match="read-only"), run.lock("generate"):
                pass
            with pytest.raises(StorageError, match="read-only"):
                run.files.delete(run.parts("prompts")[0].name)


FORBIDDEN = """
import os, sys
import pyarrow.compute  # now: another user may not read this Python's library
from rpo_cli.errors import StorageError
from rpo_cli.records import Prompt
from rpo_cli.store import open_store
run = open_store(sys.argv[1], create=True)
if os.geteuid() == 0:  # modes mean nothing to root
    os.setgid(65534)
    os.setuid(65534)
print(len(run.keys("prompts")))
for attempt in (
    lambda: run.commit("prompts", [Prompt(prompt_id="x", prompt="x", source="x")]),
    lambda: run.lock("generate").__enter__(),
    lambda: run.write_manifest({"a": 1}),
):
    try:
        attempt()
    except StorageError as error:
        print(error.message, "|", error.hint)
"""


def test_a_run_of_another_user_is_read_and_every_refused_write_is_told():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        Path(folder).chmod(0o755)
        run = open_store(Path(folder) / "run", create=True)
        run.commit("prompts", rows(0, 5))
        closed = [run.path(), run.path("prompts")]
        for path in closed:
            path.chmod(0o555)
        command = [sys.executable, "-c", FORBIDDEN, run.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        left = names(run.path())
        for path in closed:
            path.chmod(0o755)

    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0] == "5"
    assert len(lines) == 4
    assert all("no permission to write | choose a directory" in line for line in lines[1:])
    assert len(left) == 1


def test_a_file_where_a_folder_is_needed_is_told(tmp_path):
    (tmp_path / "prompts").write_text("")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "g").write_text("")

    with pytest.raises(StorageError, match=r"is a file|a file stands where"):
        open_store(tmp_path, create=True).commit("prompts", rows(0, 1))


def test_an_error_of_a_library_is_not_called_a_disk_error():
    """PIL's "not a picture" is an OSError without a number."""
    with pytest.raises(OSError, match="not a picture") as caught, disk_errors("somewhere"):
        raise OSError("not a picture")
    assert not isinstance(caught.value, StorageError)


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
