"""Files are whole or absent, and their bytes depend on their content only."""

import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from rpo_cli.errors import StorageError
from rpo_cli.train.storage import folder_atomically, remove_temporaries, safetensors_bytes, write_atomically

DUMP = """
import sys, torch
from rpo_cli.train.storage import safetensors_bytes
tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2).half()}
sys.stdout.buffer.write(safetensors_bytes(tensors, {name: "ü" for name in "abcdefgh"}))
"""


def test_equal_content_gives_equal_bytes_in_every_process(tmp_path):
    there = subprocess.run([sys.executable, "-c", DUMP], capture_output=True, check=True).stdout
    tensors = {"a": torch.ones(2, 2).half(), "b": torch.arange(3.0)}
    metadata = dict.fromkeys("hgfedcba", "ü")
    here = safetensors_bytes(tensors, metadata)
    assert here == there
    path = tmp_path / "x.safetensors"
    path.write_bytes(here)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == metadata
        assert all(torch.equal(file.get_tensor(name), value) for name, value in tensors.items())


def test_channels_last_tensors_are_written_in_their_logical_order(tmp_path):
    value = torch.randn(2, 3, 4, 5)
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_bytes({"v": value.contiguous(memory_format=torch.channels_last)}, {}))
    with safe_open(path, framework="pt") as file:
        assert torch.equal(file.get_tensor("v"), value)


def test_a_failed_write_leaves_the_old_file_and_says_why(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_atomically(path, b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_an_interrupted_folder_does_not_appear_and_is_cleaned_up(tmp_path):
    def interrupted():
        with folder_atomically(tmp_path / "adapter") as temporary:
            (temporary / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not (tmp_path / "adapter").exists()
    remove_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_replaces_what_an_interrupted_run_left(tmp_path):
    for text in ("first", "second"):
        with folder_atomically(tmp_path / "adapter") as temporary:
            (temporary / text).write_text(text)
    assert [path.name for path in (tmp_path / "adapter").iterdir()] == ["second"]
