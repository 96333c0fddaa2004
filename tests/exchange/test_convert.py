"""Pickled weights become safetensors, and nothing in a pickle ever runs."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rpo_cli.errors import RunLocked, StorageError, UsageError
from rpo_cli.exchange import pickles
from rpo_cli.exchange.convert import convert
from rpo_cli.files import draft_folder
from rpo_cli.shapes.manifest import MODELS

MANY = {
    "half": torch.arange(6).reshape(2, 3).half(),
    "brain": torch.tensor([1.5, float("nan")]).bfloat16(),
    "eighth": torch.tensor([0.5, 2.0]).to(torch.float8_e4m3fn),
    "whole": torch.tensor([2**40]),
    "flag": torch.tensor([True, False]),
    "scalar": torch.tensor(3.25),
    "none": torch.zeros(0, 4),
    "turned": torch.arange(6.0).reshape(2, 3).T,
    "learnt": torch.nn.Parameter(torch.ones(2)),
}


def saved(path, value, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path, **how)
    return path


def bits(tensor):
    return tensor.dtype, tensor.shape, tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist()


def same(found, wanted):
    return {k: bits(v) for k, v in found.items()} == {k: bits(v) for k, v in wanted.items()}


class Runs:
    """Unpickles as a command line."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch '{self.mark}'",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_every_tensor_keeps_its_name_type_shape_and_bits(tmp_path, zipped):
    # torch's own weights-only load reads no 8-bit floats of the older format, which never had them
    tensors = {name: value for name, value in MANY.items() if zipped or name != "eighth"}
    source = saved(tmp_path / "w.bin", tensors, _use_new_zipfile_serialization=zipped)
    done = convert(source, tmp_path / "new" / "model.safetensors")
    assert same(load_file(tmp_path / "new" / "model.safetensors"), tensors)
    assert (done.converted[0].tensors, done.converted[0].key) == (len(tensors), ".")
    with safe_open(tmp_path / "new" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert [item.name for item in (tmp_path / "new").iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("place", ["beside the weights", "alone"])
def test_a_command_in_a_pickle_is_refused_by_name_and_never_runs(tmp_path, zipped, place, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    hostile = Runs(tmp_path / "ran")
    value = hostile if place == "alone" else {"a": torch.ones(2), "z": hostile}
    source = saved(tmp_path / "w.pt", value, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UsageError, match=r"weights-only load refuses it: it asks for posix\.system"):
        convert(source, tmp_path / "out.safetensors")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["w.pt"]
    torch.load(source, weights_only=False)  # the trap is a real one
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("value", "key", "under"),
    [
        (
            {"epoch": 3, "state_dict": MANY, "optimizer": {"state": {0: {"m": torch.ones(2)}}}},
            None,
            "state_dict",
        ),
        ({"model": {"state_dict": MANY}, "arguments": {"lr": 0.1}}, None, "model.state_dict"),
        ({"weights": MANY, "ema": {"a": torch.ones(1)}}, "weights", "weights"),
        ({**MANY, "inner": {"a": torch.ones(1)}}, ".", "."),
    ],
)
def test_the_state_dict_is_found_where_there_is_one_and_named_where_there_are_several(
    tmp_path, value, key, under
):
    done = convert(saved(tmp_path / "w.ckpt", value), tmp_path / "m.safetensors", key=key)
    assert done.converted[0].key == under
    assert same(load_file(tmp_path / "m.safetensors"), MANY)


def test_which_of_several_state_dicts_is_asked_not_guessed(tmp_path):
    source = saved(tmp_path / "w.pt", {"model": MANY, "ema": MANY | {"x": torch.ones(1)}})
    with pytest.raises(UsageError, match="several dictionaries of tensors: model, ema") as caught:
        convert(source, tmp_path / "m.safetensors")
    assert "--key" in caught.value.hint
    with pytest.raises(UsageError, match="no tensors under 'emma'"):
        convert(source, tmp_path / "m.safetensors", key="emma")


def test_tensors_that_share_memory_become_a_copy_per_name(tmp_path):
    table = torch.arange(12.0).reshape(3, 4)
    shared = {"in": table, "out": table, "turned": table.T, "row": table[1], "columns": table[:, 1:3]}
    convert(saved(tmp_path / "w.bin", {**shared, "steps": 5}), tmp_path / "m.safetensors")
    assert same(load_file(tmp_path / "m.safetensors"), shared)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([1, 2], "no dictionary of tensors"),
        ({"a": 1}, "no dictionary of tensors"),
        ({"a": torch.eye(2).to_sparse()}, "cannot keep 'a'"),
        ({"a": torch.ones(1, dtype=torch.complex64)}, "cannot keep 'a'"),
        ({"a": torch.empty(2, device="meta")}, "cannot keep 'a'"),
        ({"__metadata__": torch.ones(1)}, "cannot keep '__metadata__'"),
        ({"a": torch.zeros(1).expand(1 << 20, 1 << 10)}, "would take 4,294,967,296 bytes"),
        ({"a": torch.ones(1), "loss": __import__("numpy").float64(0.5)}, "it asks for numpy"),
    ],
)
def test_what_safetensors_cannot_keep_is_refused(tmp_path, value, why):
    with pytest.raises(UsageError, match=why):
        convert(saved(tmp_path / "w.pt", value), tmp_path / "m.safetensors")
    assert [item.name for item in tmp_path.iterdir()] == ["w.pt"]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_damaged_files_are_refused_in_two_lines_or_read_never_anything_else(tmp_path, zipped):
    """Cut at any length, or with any bytes changed: a UsageError, or a file that says what was read."""
    tensors = {"a": torch.arange(8.0), "b": torch.ones(2, 2)}
    whole = saved(tmp_path / "w.pt", tensors, _use_new_zipfile_serialization=zipped).read_bytes()
    chance, refused = random.Random(0), 0
    for turn in range(60):
        data = bytearray(whole)
        if turn % 2:
            del data[chance.randrange(len(data)) :]
        else:
            for _ in range(5):
                data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "w.pt").write_bytes(data)
        out, before = tmp_path / f"{turn}.safetensors", refused
        try:
            convert(tmp_path / "w.pt", out)
        except UsageError:
            refused += 1
        assert out.exists() == (refused == before)
    assert refused >= 30  # all that were cut


def test_a_compressed_zip_is_refused_before_it_grows(tmp_path):
    source = saved(tmp_path / "w.pt", {"a": torch.zeros(1 << 16)})
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(UsageError, match="compressed zip"):
        convert(tmp_path / "b.pt", tmp_path / "m.safetensors")


def test_one_compressed_member_beside_the_tensors_is_refused_too(tmp_path):
    source = saved(tmp_path / "w.pt", {"a": torch.ones(2)})
    with zipfile.ZipFile(source, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more", bytes(1 << 16))
    with pytest.raises(UsageError, match="compressed zip"):
        convert(source, tmp_path / "m.safetensors")


def test_a_write_that_reads_back_otherwise_leaves_nothing(tmp_path, monkeypatch):
    """A disk that turns one bit, which no test can order from a real one."""

    def turned(tensors, out, metadata):
        save_file({name: value + 1 for name, value in tensors.items()}, out, metadata=metadata)

    monkeypatch.setattr(pickles, "save_file", turned)
    with pytest.raises(StorageError, match="'a' reads back otherwise"):
        convert(saved(tmp_path / "w.pt", {"a": torch.ones(2)}), tmp_path / "m.safetensors")
    assert [item.name for item in tmp_path.iterdir()] == ["w.pt"]


@pytest.fixture
def folder(tmp_path):
    """A pipeline: a sharded text encoder, a unet with a trainer's state, a VAE that has safetensors too."""
    home = tmp_path / "model"
    parts = [{"a": torch.ones(2), "b": torch.zeros(3).half()}, {"c": torch.arange(4)}]
    names = [f"pytorch_model-{n:05d}-of-00002.bin" for n in (1, 2)]
    for name, part in zip(names, parts, strict=True):
        saved(home / "text_encoder" / name, part)
    places = {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part}
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (home / "text_encoder" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    saved(home / "unet" / "diffusion_pytorch_model.bin", {"w": torch.ones(2)})
    saved(home / "unet" / "optimizer.pt", {"s": torch.ones(2)})
    saved(home / "vae" / "diffusion_pytorch_model.bin", {"v": torch.zeros(1)})
    save_file({"v": torch.ones(1)}, home / "vae" / "diffusion_pytorch_model.safetensors")
    (home / "model_index.json").write_text('{"unet": ["diffusers", "U"]}')
    (home / ".git").mkdir()
    (home / ".git" / "x.bin").write_bytes(b"hidden")
    return home


def test_a_folder_keeps_its_layout_with_shards_and_index_renamed(folder, tmp_path):
    done = convert(folder, tmp_path / "new")
    made = sorted(p.relative_to(tmp_path / "new").as_posix() for p in (tmp_path / "new").rglob("*.*"))
    assert made == [
        "model_index.json",
        "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model-00002-of-00002.safetensors",
        "text_encoder/model.safetensors.index.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    index = json.loads((tmp_path / "new" / "text_encoder" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 2 * 4 + 3 * 2 + 4 * 8
    assert {
        name: load_file(tmp_path / "new" / "text_encoder" / file)[name].dtype
        for name, file in index["weight_map"].items()
    } == {
        "a": torch.float32,
        "b": torch.float16,
        "c": torch.int64,
    }
    assert load_file(tmp_path / "new" / made[-1])["v"].item() == 1  # the safetensors that were there
    assert done.left_out == {
        "unet/optimizer.pt": "a trainer's state, no weights",
        "vae/diffusion_pytorch_model.bin": "there is safetensors of it",
    }
    assert [item.name for item in tmp_path.iterdir()] in (["model", "new"], ["new", "model"])


def test_one_bad_pickle_leaves_no_folder(folder, tmp_path):
    saved(folder / "unet" / "extra.pth", {"a": Runs(tmp_path / "ran")})
    with pytest.raises(UsageError, match=r"extra\.pth: weights-only load refuses it"):
        convert(folder, tmp_path / "new")
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("where", ["../outside.json", "/etc/hostname", "vae"])
def test_links_that_lead_out_or_to_a_folder_are_refused(folder, tmp_path, where):
    (tmp_path / "outside.json").write_text("{}")
    (folder / "link.json").symlink_to(where)
    with pytest.raises(UsageError, match=r"link\.json: is a link that leads out"):
        convert(folder, tmp_path / "new")


def test_a_link_within_the_folder_becomes_the_file_it_means(folder, tmp_path):
    (folder / "config.json").symlink_to("model_index.json")
    convert(folder, tmp_path / "new")
    assert not (tmp_path / "new" / "config.json").is_symlink()
    assert (tmp_path / "new" / "config.json").read_text() == (folder / "model_index.json").read_text()


@pytest.mark.parametrize(
    "shard", ["pytorch_model-00003-of-00002.bin", "../unet/diffusion_pytorch_model.bin"]
)
def test_an_index_that_names_no_shard_of_its_own_folder_is_refused(folder, tmp_path, shard):
    index = {"weight_map": {"a": shard}}
    (folder / "text_encoder" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match=r"the shard .* is not there"):
        convert(folder, tmp_path / "new", dry_run=True)


def test_a_tensor_that_no_shard_holds_is_refused(folder, tmp_path):
    place = folder / "text_encoder" / "pytorch_model.bin.index.json"
    index = json.loads(place.read_text())
    index["weight_map"]["lost"] = "pytorch_model-00001-of-00002.bin"
    place.write_text(json.dumps(index))
    with pytest.raises(UsageError, match="no shard holds lost"):
        convert(folder, tmp_path / "new")


@pytest.mark.parametrize("name", ["m.safetensors", "m[1]*.safetensors"])
def test_two_that_write_one_out_are_told_and_what_a_killed_one_left_is_cleared(tmp_path, name):
    source, drafts = saved(tmp_path / "w.pt", {"a": torch.ones(1)}), f".{name}.rpo-draft-"
    (tmp_path / f"{drafts}killed" / "left").mkdir(parents=True)
    with draft_folder(tmp_path, drafts), pytest.raises(RunLocked, match="another rpo"):
        convert(source, tmp_path / name)
    (tmp_path / f"{drafts}killed" / "left").mkdir(parents=True)
    convert(source, tmp_path / name)
    assert sorted(item.name for item in tmp_path.iterdir()) == [name, "w.pt"]


@pytest.mark.slow
def test_a_conversion_killed_at_any_moment_leaves_no_out_and_the_next_one_makes_it_whole(tmp_path):
    """Real kill -9 of a process that is converting; the moments are those of its own progress."""
    source = tmp_path / "model"
    for shard in range(4):
        saved(source / f"shard-{shard}.bin", {f"w{shard}.{n}": torch.randn(300_000) for n in range(4)})
    (source / "config.json").write_text("{}")
    out = tmp_path / "out"
    program = "import sys; from pathlib import Path; from rpo_cli.exchange.convert import convert"
    program += "; convert(*map(Path, sys.argv[1:]))"
    command = [sys.executable, "-c", program, str(source), str(out)]
    for made in (0, 2):
        process = subprocess.Popen(command)
        while process.poll() is None and not any(
            len(list(draft.glob("*.safetensors"))) >= made for draft in tmp_path.glob(".out.rpo-draft-*")
        ):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not out.exists()
    subprocess.run(command, check=True)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["model", "out"]
    assert sorted(file.name for file in out.iterdir()) == [
        "config.json",
        *(f"shard-{shard}.safetensors" for shard in range(4)),
    ]
    for shard in range(4):
        wanted = torch.load(source / f"shard-{shard}.bin", weights_only=True)
        assert same(load_file(out / f"shard-{shard}.safetensors"), wanted)


def test_a_disk_that_takes_no_more_is_told_and_leaves_nothing(tmp_path):
    """The kernel refuses the write, by a limit on the size of files."""
    source = saved(tmp_path / "w.pt", {"a": torch.zeros(1 << 18)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(StorageError, match="cannot be written"):
            convert(source, tmp_path / "m.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [item.name for item in tmp_path.iterdir()] == ["w.pt"]


@pytest.mark.slow
def test_transformers_loads_a_converted_folder_of_shards(tmp_path):
    """The embedded reward as two pickles and an index, with one tensor in both."""
    from transformers import CLIPModel

    shutil.copytree(MODELS / "reward", tmp_path / "reward")
    weights = load_file(tmp_path / "reward" / "model.safetensors")
    (tmp_path / "reward" / "model.safetensors").unlink()
    names, places = sorted(weights), {}
    for n, part in enumerate((names[::2], [*names[1::2], names[0]]), 1):
        file = f"pytorch_model-{n:05d}-of-00002.bin"
        saved(tmp_path / "reward" / file, {name: weights[name] for name in part})
        places |= dict.fromkeys(part, file)
    (tmp_path / "reward" / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))

    convert(tmp_path / "reward", tmp_path / "new")

    model, told = CLIPModel.from_pretrained(
        tmp_path / "new", use_safetensors=True, dtype="auto", output_loading_info=True
    )
    assert not told["missing_keys"]
    found = model.state_dict()
    assert all(torch.equal(found[name], weights[name]) for name in weights if name in found)
    assert len(found.keys() & weights.keys()) >= len(found) - 2  # buffers of positions
