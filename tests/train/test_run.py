"""What a training is told apart by, where code of third parties takes part."""

import json

import pytest

from rpo_cli.errors import UsageError

TOY = """
from rpo_cli.train.families.unet import StableDiffusion1

class Toy(StableDiffusion1):
    serves = staticmethod(lambda index: index["_class_name"] == "StableDiffusionPipeline")

class Other(Toy):
    serves = staticmethod(lambda index: False)
"""
POINTS = "[rpo.families]\na-toy = toy:Toy\n"


def identity(folder):
    return json.loads((folder / "settings.json").read_text())["identity"]


def cached(cache):
    return {place.name for place in (cache / "latents").iterdir()}


def test_a_training_by_a_family_of_others_is_another_training_with_each_version(site, run_train, tmp_path):
    whole, cache = {"steps": 1, "save_every": 1, "validate_every": 1}, tmp_path / "cache"
    run_train("ours", cache=cache, **whole)
    assert "family" not in identity(tmp_path / "ours")
    ours = cached(cache)

    site("third", "1.0", POINTS, toy=TOY)
    assert run_train("theirs", cache=cache, **whole).steps == 1

    found = identity(tmp_path / "theirs")
    assert found["family"] == {
        "name": "a-toy",
        "distribution": "third",
        "version": "1.0",
        "place": "toy:Toy",
    }
    assert {**found, "family": None} == {**identity(tmp_path / "ours"), "family": None}
    assert len(cached(cache) - ours) == 1  # nothing that our code encoded is taken for theirs
    assert run_train("theirs", cache=cache, **whole).skipped
    site("third", "1.1", POINTS, toy=TOY)
    with pytest.raises(UsageError, match=r"made with other settings: family .*1\.0.*1\.1"):
        run_train("theirs", cache=cache, **whole)
    with pytest.raises(UsageError, match="made with other settings: family None → "):
        run_train("ours", cache=cache, **whole)


def test_a_family_of_others_that_does_not_serve_the_model_changes_no_training(site, run_train, tmp_path):
    whole = {"steps": 1, "save_every": 1, "validate_every": 1}
    run_train("ours", **whole)

    site("third", "1.0", POINTS.replace("toy:Toy", "toy:Other"), toy=TOY)

    assert run_train("ours", **whole).skipped


def test_a_family_of_others_is_part_of_what_a_training_prepares(site, run_train, tmp_path):
    site("third", "1.0", POINTS, toy=TOY)
    cache = tmp_path / "cache"
    run_train("one", cache=cache, steps=1)
    before = cached(cache)

    site("third", "2.0", POINTS, toy=TOY)
    run_train("two", cache=cache, steps=1)

    assert len(before) == 1
    assert len(cached(cache)) == 2
