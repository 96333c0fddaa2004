"""Hashes of files: read once, again when anything of the file has changed, not remembered while fresh."""

import hashlib
import os
import shutil
import sqlite3

import pytest

from rpo_cli import hashes
from rpo_cli.hashes import file_hashes


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "hashes.sqlite"


@pytest.fixture
def settled(monkeypatch):
    """As if every file had been written long ago."""
    monkeypatch.setattr(hashes, "SETTLED", 0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    return path


def truth(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def file_sha256(path, cache=None):
    with file_hashes(cache) as found:
        return found.of(path)


def known(path, cache):
    with file_hashes(cache) as found:
        return found.known(path)


def test_a_file_that_has_not_changed_is_not_read_again(file, cache, settled, monkeypatch):
    assert file_sha256(file, cache) == truth(file)
    monkeypatch.delattr(hashlib, "file_digest")
    assert file_sha256(file, cache) == truth(file)


@pytest.mark.parametrize("change", ["content", "copy", "touch"])
def test_a_file_of_the_same_size_and_mtime_is_read_again_where_it_may_be_another(
    file, cache, settled, tmp_path, change
):
    """Written anew, replaced by a copy that keeps its times, or touched: ctime or inode tell."""
    file_sha256(file, cache)
    times = file.stat()
    if change == "content":
        file.write_bytes(b"WEIGHTS")
    elif change == "copy":
        (tmp_path / "other").write_bytes(b"WEIGHTS")
        (tmp_path / "other").replace(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert known(file, cache) is None
    assert file_sha256(file, cache) == truth(file)


def test_a_file_that_was_written_a_moment_ago_is_not_remembered(file, cache):
    file_sha256(file, cache)
    assert known(file, cache) is None


def test_two_names_of_one_file_share_what_is_remembered(file, cache, settled, tmp_path):
    file_sha256(file, cache)
    (tmp_path / "link").symlink_to(file)
    assert known(tmp_path / "link", cache) == truth(file)


@pytest.mark.parametrize("content", [b"", b"{broken", b"SQLite format 3\0 but no more", None])
def test_a_spoilt_cache_costs_time_only_and_is_made_anew(file, cache, settled, content):
    cache.parent.mkdir()
    if content is None:
        with sqlite3.connect(cache) as database:
            database.execute("CREATE TABLE files (other)")
        database.close()
    else:
        cache.write_bytes(content)
    assert file_sha256(file, cache) == truth(file)
    assert known(file, cache) == truth(file)


def test_a_cache_that_cannot_be_written_is_fine(file, tmp_path):
    (tmp_path / "taken").write_text("")
    assert file_sha256(file, tmp_path / "taken" / "hashes.sqlite") == truth(file)
    (tmp_path / "folder.sqlite").mkdir()
    assert file_sha256(file, tmp_path / "folder.sqlite") == truth(file)


def test_the_default_cache_is_the_users(file, tmp_path, monkeypatch, settled):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    file_sha256(file)
    assert known(file, tmp_path / "xdg" / "rpo" / "hashes.sqlite") == truth(file)
    shutil.rmtree(tmp_path / "xdg")
    assert file_sha256(file) == truth(file)
