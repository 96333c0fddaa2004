"""`rpo plan` at the door."""

import json

import pytest


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\na dog\n")
    return path


def test_a_plan_fits_80_columns_and_names_every_step_model_and_download(rpo, tmp_path, prompts):
    done = rpo("plan", tmp_path / "run", "--preset", "sd15", "--prompts", prompts)

    assert done.code == 0
    assert [line for line in done.out.splitlines() if len(line) > 79 and "/" not in line] == []
    for text in (
        "generate         8 ",
        "critic, reward vqascore: Qwen/Qwen3-VL-8B-Instruct",
        "not here, a download of 17.5 GB; 17.5 GB of weights in memory; Apache-2.0",
        "training takes 5.64 GB, an estimate",
        "the hub: a download of timbrooks/instruct-pix2pix, 5.48 GB",
    ):
        assert " ".join(text.split()) in " ".join(done.out.split())


def test_a_plan_as_json_and_quietly(rpo, tmp_path, prompts):
    words = ["plan", tmp_path / "run", "--preset", "sd15", "--prompts", prompts, "--until", "critique"]
    found = json.loads(rpo(*words, "--json").out)

    assert [(item["stage"], item["to_make"]) for item in found["steps"]] == [
        ("generate", 8),
        ("critique", 8),
    ]
    assert [model["role"] for model in found["models"]] == ["generator", "critic"]
    assert rpo(*words, "--quiet").out == "16\n"


def test_a_plan_of_local_models_asks_nothing(rpo, tmp_path):
    done = rpo("plan", tmp_path / "run", "--preset", "shapes", "--limit", 2, "--until", "edit")

    assert done.out.rstrip().endswith("what the network will be asked:\n  nothing")
    assert not (tmp_path / "run").exists()


def test_a_plan_without_models_says_the_three_ways_to_name_them(rpo, tmp_path, prompts):
    done = rpo("plan", tmp_path / "run", "--prompts", prompts)

    assert (done.code, done.out) == (2, "")
    assert "no model is named for generate.generator" in done.err
    assert all(way in done.err for way in ("--preset", "rpo.toml", "--generator MODEL"))
