"""Evaluations at several guidances, on stand-in models: each whole of guidance is one step brighter."""

import pytest

from rpo_cli.errors import UsageError
from rpo_cli.line.evaluation.evaluate import evaluate
from rpo_cli.line.report.sections import evaluations
from rpo_cli.store import open_store

OWN = {"generate.guidance": 1.0}


def gains(found):
    """Label → (label of the base beside it, gain of the reward over it)."""
    return {
        row["label"]: (row["beside"], row["against_base"]["rewards"]["clip"]["difference"]["value"])
        for row in found.results["settings"][1:]
    }


def test_a_model_stands_beside_the_base_at_its_own_guidance_and_that_beside_the_first(stand):
    """A step of guidance more, a step of tuning: neither counts as the other."""
    stand.train("one")

    found = evaluate(stand.line(**OWN), seeds=2, guidances=[1.0, 2.0])

    assert [row["label"] for row in found.results["settings"]] == ["base", "one", "base@2", "one@2"]
    assert gains(found) == {"one": ("base", 1.0), "base@2": ("base", 1.0), "one@2": ("base@2", 1.0)}
    assert [row["guidance"] for row in found.results["settings"]] == [1.0, 1.0, 2.0, 2.0]
    assert found.results["bases"] == {"base": 1.0, "base@2": 2.0}


def test_drift_is_told_from_the_base_of_the_same_guidance(stand):
    stand.train("one")

    found = evaluate(stand.line(**OWN), seeds=1, guidances=[1.0, 2.0])

    drifts = [row["against_base"]["drift"]["pixel"]["value"] for row in found.results["settings"][1:]]
    assert drifts == pytest.approx([0.2, 0.2, 0.2])


def test_training_seeds_stay_one_line_a_guidance(stand):
    stand.train("s0", 1), stand.train("s1", 2)

    found = evaluate(stand.line(), adapters=["dpo=s0,s1"], seeds=1, guidances=[0.5, 1])

    table = {row["label"]: row["members"] for row in found.results["settings"]}
    assert table["dpo@0.5"] == ["s0@0.5", "s1@0.5"]
    assert table["dpo@1"] == ["s0@1", "s1@1"]
    assert gains(found)["dpo@1"] == ("base@1", 1.5)


def test_another_guidance_makes_only_its_own_pictures_and_changes_no_setting_of_the_run(stand):
    stand.train("one")
    stand.line(**OWN).record()
    before = (stand.run / "run.json").read_bytes()
    first = evaluate(stand.line(), seeds=2)
    stand.built.clear()

    more = evaluate(stand.line(), seeds=2, guidances=[1.0, 2.0, 1.0])
    built = [*stand.built]
    again = evaluate(stand.line(), seeds=2, guidances=[1.0, 2.0])
    back = evaluate(stand.line(), seeds=2)

    assert built == [
        ("generators", "base"),
        ("rewards", "base"),
        ("generators", "one"),
        ("rewards", "base"),
    ]
    assert (more.skipped, again.skipped) == (False, True)
    assert more.results["settings"][:2] == first.results["settings"]
    assert (back.results, stand.built) == (first.results, built)
    assert (stand.run / "run.json").read_bytes() == before
    assert open_store(stand.run / "eval/default/base@2").keys("images")


def test_a_guidance_named_to_a_run_without_one_is_in_every_label(stand):
    stand.train("one")

    found = evaluate(stand.line(), seeds=1, guidances=[2.0])

    assert found.results["bases"] == {"base@2": 2.0}
    assert gains(found) == {"one@2": ("base@2", 1.0)}


@pytest.mark.parametrize("guidance", [-0.5, float("nan"), float("inf")])
def test_what_is_no_guidance_is_refused_before_anything_is_made(stand, guidance):
    stand.train("one")

    with pytest.raises(UsageError, match="--guidance"):
        evaluate(stand.line(), guidances=[1.0, guidance])

    assert (stand.built, (stand.run / "eval").exists()) == ([], False)


def test_the_report_shows_figures_and_pictures_of_every_guidance(stand):
    stand.train("one")
    evaluate(stand.line(**OWN), seeds=2, guidances=[1.0, 2.0])

    (shown,) = evaluations(open_store(stand.run), lambda picture: str(picture.getpixel((0, 0))[0]))

    rewards = next(table for table in shown.tables if table.caption.startswith("Rewards"))
    assert [row[1] for row in rewards.rows] == ["base", "one", "base@2", "one@2"]
    assert "Guidance of base 1, base@2 2; a model stands beside" in shown.summary
    greys = {model: {int(grey) for grey in files} for model, files in shown.grids[0].rows}
    assert min(greys["base@2"]) == min(greys["one"]) == min(greys["base"]) + 51
    assert min(greys["one@2"]) == min(greys["base@2"]) + 51
