"""A committed cell is what the code gives today."""

import json

from tests.bench import shapes_eval


def test_the_committed_figures_of_the_oracle_are_computed_again():
    (file,) = shapes_eval.RESULTS.glob("oracle-*.json")
    committed = json.loads(file.read_text())
    settings = committed["settings"]

    assert shapes_eval.measure_oracle(settings["split"], settings["cases"]) == committed["result"]


def test_every_printed_part_has_one_committed_cell():
    """`make bench-shapes` computes nothing on the shipped weights."""
    generated = shapes_eval.asdict(shapes_eval.TEXT_TO_IMAGE)
    names = {file.name.rpartition("-")[0] for file in shapes_eval.RESULTS.glob("*.json")}
    (text_to_image,) = shapes_eval.RESULTS.glob("text-to-image-*.json")
    settings = json.loads(text_to_image.read_text())["settings"]

    assert names == {
        *("oracle", "vae", "text-to-image", "editor-clean", "editor-flawed"),
        *("critic-clean", "critic-generated", "reward-clean", "reward-generated"),
        *("vqascore-clean", "vqascore-generated"),
    }
    assert {key: settings[key] for key in generated} == generated
    weights = shapes_eval.weights_hash(shapes_eval.manifest.MODELS / "text-to-image")
    assert settings["weights"] == weights
