"""`rpo convert` as a user types it."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from rpo_cli.identity import identify
from rpo_cli.shapes.manifest import MODELS


def test_the_embedded_reward_pickled_and_converted_has_its_weights_again(rpo, tmp_path, monkeypatch):
    """The refusal names a command; that command makes a folder that is taken, with the same tensors."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(MODELS / "reward", "reward")
    weights = load_file("reward/model.safetensors")
    torch.save(weights, "reward/pytorch_model.bin")
    (tmp_path / "reward" / "model.safetensors").unlink()
    with pytest.raises(Exception, match="only pickled weights") as caught:
        identify("reward")
    command = caught.value.hint.partition("rpo ")[2].partition(",")[0].split()

    done = rpo(*command)

    assert (done.code, done.out.splitlines()[-1]) == (0, "reward-safetensors"), done.err
    assert identify("reward-safetensors").kind == "folder"
    found = load_file("reward-safetensors/model.safetensors")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    again = rpo(*command)
    assert (again.code, "is there already" in again.err) == (2, True)


def test_a_nested_checkpoint_goes_into_a_folder_that_waits_for_it(rpo, tmp_path):
    """As HPSv2.1 is published: weights under a key, other names beside it."""
    torch.save({"epoch": 4, "state_dict": {"logit_scale": torch.ones(())}}, tmp_path / "HPS.pt")
    (tmp_path / "hps").mkdir()
    (tmp_path / "hps" / "config.json").write_text("{}")
    out = tmp_path / "hps" / "model.safetensors"
    planned = json.loads(rpo("convert", tmp_path / "HPS.pt", out, "--dry-run", "--json").out)
    assert (planned["pickles"], planned["converted"]) == ({"HPS.pt": "model.safetensors"}, [])
    assert not out.exists()
    done = json.loads(rpo("convert", tmp_path / "HPS.pt", out, "--json").out)
    assert done["converted"] == [
        {
            "source": "HPS.pt",
            "file": "model.safetensors",
            "key": "state_dict",
            "tensors": 1,
            "bytes": 4,
            "left_out": [],
        }
    ]
    assert rpo("convert", tmp_path / "HPS.pt", tmp_path / "q.safetensors", "-q").out.strip() == str(
        tmp_path / "q.safetensors"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere", "new"), "no such file or folder"),
        (("cut.pt", "new.safetensors"), "weights-only load refuses it"),
        (("cut.pt", "new"), "OUT is a .safetensors file"),
        (("cut.pt", "there.safetensors"), "is there already"),
        (("there.safetensors", "new"), "cannot be read as safetensors"),
        (("there.safetensors", "new.safetensors"), "is safetensors already"),
        (("empty", "new"), "holds no pickled weights"),
        (("empty", "empty/new"), "lies inside"),
    ],
)
def test_a_mistake_is_told_in_two_lines_with_exit_2_and_leaves_nothing(
    rpo, tmp_path, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(64)}, "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:-200])
    (tmp_path / "there.safetensors").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    done = rpo("convert", *arguments, "--quiet")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 2)
    assert said in done.err.splitlines()[0]
    assert sorted(tmp_path.rglob("*")) == before
