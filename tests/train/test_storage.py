"""Files are whole or absent, and their bytes depend on their content only."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from rpo_cli.errors import RpoError, StorageError
from rpo_cli.train.storage import (
    folder_atomically,
    holds,
    remove_temporaries,
    require_whole,
    write_atomically,
    write_tensors,
)

DUMP = """
import pathlib, sys, torch
from rpo_cli.train.storage import write_tensors
tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2).half()}
write_tensors(pathlib.Path(sys.argv[1]), tensors, {name: "ü" for name in "abcdefgh"})
"""


def test_equal_content_gives_equal_bytes_in_every_process(tmp_path):
    other = tmp_path / "other.safetensors"
    subprocess.run([sys.executable, "-c", DUMP, other], check=True)
    tensors = {"a": torch.ones(2, 2).half(), "b": torch.arange(3.0)}
    metadata = dict.fromkeys("hgfedcba", "ü")
    path = tmp_path / "x.safetensors"
    write_tensors(path, tensors, metadata)
    assert path.read_bytes() == other.read_bytes()
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == metadata
        assert all(torch.equal(file.get_tensor(name), value) for name, value in tensors.items())


def test_channels_last_tensors_are_written_in_their_logical_order(tmp_path):
    value = torch.randn(2, 3, 4, 5)
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"v": value.contiguous(memory_format=torch.channels_last)}, {})
    with safe_open(path, framework="pt") as file:
        assert torch.equal(file.get_tensor("v"), value)


def test_a_file_is_the_librarys_whatever_the_number_formats(tmp_path):
    kinds = [
        torch.uint8,
        torch.bfloat16,
        torch.int64,
        torch.float32,
        torch.bool,
        torch.float16,
        torch.float64,
    ]
    kinds += [torch.int8, torch.int16, torch.int32]
    tensors = {f"{n}{kind}": torch.arange(n).to(kind) for kind in kinds for n in (3, 0, 1)}
    tensors["scalar"] = torch.tensor(7.0)
    path = tmp_path / "x.safetensors"
    write_tensors(path, tensors, {})
    theirs, ours = save(tensors), path.read_bytes()
    sizes = [8 + int.from_bytes(data[:8], "little") for data in (theirs, ours)]
    assert json.loads(theirs[8 : sizes[0]]) == json.loads(ours[8 : sizes[1]])
    assert theirs[sizes[0] :] == ours[sizes[1] :]


def test_what_a_file_holds_is_compared_by_name_shape_and_number(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3).half(), "c": torch.zeros(0)}
    write_tensors(path, tensors, {"told": "yes"})
    assert holds(path, tensors) == []
    assert holds(path, {**tensors, "a": torch.arange(6.0).view(3, 2)}) == ["a"]
    assert holds(path, {**tensors, "a": torch.arange(1.0, 7.0).view(2, 3)}) == ["a"]
    assert holds(path, {**tensors, "b": tensors["b"].view(torch.bfloat16)}) == ["b"]
    assert holds(path, {"a": tensors["a"], "c": tensors["c"], "d": tensors["b"]}) == ["b", "d"]


@pytest.mark.parametrize("place", [0, 9, 60, 200, -1, -400])
def test_one_flipped_bit_of_a_file_with_a_digest_is_seen(tmp_path, place):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"v": torch.arange(200.0)}, {"state": "{}"}, digest=True)
    require_whole(path)
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    with pytest.raises(RpoError, match="damaged after it was written"):
        require_whole(path)


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
