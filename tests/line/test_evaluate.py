"""An evaluation on stand-in models whose every number is known."""

import json
import math
import subprocess
import sys

import pytest

from rpo_cli.errors import RpoError, UsageError
from rpo_cli.line.evaluation import prompts
from rpo_cli.line.evaluation.evaluate import evaluate
from rpo_cli.line.work import base
from rpo_cli.records import row_seed
from rpo_cli.store import open_store


def of(found, label):
    return next(setting for setting in found.results["settings"] if setting["label"] == label)


def test_the_figures_are_those_of_the_pictures(stand):
    """One step brighter: reward +1 and a win on every picture; 51 of 255 grey levels away from the base."""
    stand.train("one")

    found = evaluate(stand.line(), seeds=3)

    beside = of(found, "one")["against_base"]
    assert beside["rewards"]["clip"]["difference"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert beside["rewards"]["clip"]["win_rate"]["value"] == 1.0
    assert beside["rewards"]["clip"]["seed_variance"]["value"] == pytest.approx(0.0, abs=1e-12)
    assert beside["drift"]["pixel"]["value"] == pytest.approx(0.2)
    assert beside["diversity"]["pixel"]["value"] == pytest.approx(0.0, abs=1e-12)
    assert found.results["prompts"]["count"] == len(stand.held_out)


def test_training_seeds_of_a_setting_are_drawn_too(stand):
    """Gains of 1 and 3 steps: their mean, and an interval from the one to the other."""
    stand.train("s0", 1), stand.train("s1", 3)

    found = evaluate(stand.line(), adapters=["dpo=s0,s1"], seeds=1)

    difference = of(found, "dpo")["against_base"]["rewards"]["clip"]["difference"]
    assert difference == {"value": 2.0, "low": 1.0, "high": 3.0}
    assert [setting["label"] for setting in found.results["settings"]] == ["base", "dpo"]


def test_every_picture_has_a_line_of_its_own(stand):
    stand.train("one")
    evaluate(stand.line(), seeds=2)

    rows = [
        json.loads(line) for line in (stand.run / "eval/default/pictures.jsonl").read_text().splitlines()
    ]

    assert len(rows) == 2 * 2 * len(stand.held_out)
    assert {row["prompt"] for row in rows} == set(stand.held_out)
    base, tuned = ([row for row in rows if row["model"] == name] for name in ("base", "one"))
    assert [row["scores"]["clip"] + 1 for row in base] == [row["scores"]["clip"] for row in tuned]


def test_a_finished_evaluation_builds_nothing_and_a_larger_one_only_what_is_missing(stand):
    stand.train("one")
    first = evaluate(stand.line(), seeds=2)
    stand.built.clear()

    again = evaluate(stand.line(), seeds=2)
    stand.train("two", 2)
    more = evaluate(stand.line(), seeds=2)

    assert (first.skipped, again.skipped, again.results) == (False, True, first.results)
    assert stand.built == [("generators", "two"), ("rewards", "base")]
    assert [setting["label"] for setting in more.results["settings"]] == ["base", "one", "two"]


def test_equal_evaluations_write_equal_bytes(stand):
    stand.train("one")
    evaluate(stand.line(), name="a", seeds=2)
    evaluate(stand.line(), name="b", seeds=2)

    for file in ("results.json", "pictures.jsonl", "prompts.jsonl"):
        assert (stand.run / "eval/a" / file).read_bytes() == (stand.run / "eval/b" / file).read_bytes()


def test_an_evaluation_draws_from_noise_of_its_own_that_follows_from_the_runs(stand):
    """Never from that of the run's own pictures, which the training has seen."""
    stand.train("one")
    found = [
        evaluate(stand.line(**{"run.seed": 3}), name=name, seeds=1, seed=seed).results["seed"]
        for name, seed in (("a", None), ("b", None), ("c", 9))
    ]
    assert found == [row_seed(3, "eval"), row_seed(3, "eval"), 9]
    assert found[0] != 3


def test_scores_that_are_others_are_figured_anew(stand, monkeypatch):
    stand.train("one")
    first = evaluate(stand.line(), seeds=1)
    nested = open_store(stand.run / "eval/default/base")
    for part in nested.parts("rewards"):
        nested.files.delete(part.name)

    class Speechless:
        def setup(self): ...

        def score(self, prompts, images):
            return [math.nan] * len(prompts)

    monkeypatch.setattr(base, "build_backend", lambda *given, **options: Speechless())

    again = evaluate(stand.line(), seeds=1)

    assert not again.skipped
    assert of(first, "base")["rewards"]["clip"]["mean"] is not None
    assert of(again, "base")["rewards"]["clip"]["mean"] is None


def test_the_base_is_the_model_alone_whatever_the_run_draws_with(stand):
    adapter = stand.train("one") / "adapter"

    found = evaluate(stand.line(**{"generate.lora": str(adapter)}), seeds=1)

    assert [name for kind, name in stand.built if kind == "generators"] == ["base", "one"]
    difference = of(found, "one")["against_base"]["rewards"]["clip"]["difference"]
    assert difference == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_nothing_of_an_evaluation_reaches_the_run(stand):
    stand.train("one")
    before = (stand.run / "run.json").read_bytes()

    evaluate(stand.line(), seeds=1)

    store = open_store(stand.run)
    assert (store.keys("images"), store.keys("rewards")) == (set(), set())
    assert (stand.run / "run.json").read_bytes() == before


def test_settings_in_a_nested_folder_count_for_nothing(stand):
    """An evaluation is of the run's settings: what lies in the nested folder is data."""
    stand.train("one")
    nested = stand.run / "eval/default/base"
    nested.mkdir(parents=True)
    (nested / "rpo.toml").write_text("[generate]\nsteps = 3\n")

    evaluate(stand.line(**{"generate.steps": 24}), seeds=1)

    assert json.loads((nested / "run.json").read_text())["settings"]["generate"]["steps"] == 24


def test_prompts_of_the_training_are_refused_unless_they_are_asked_for(stand, tmp_path):
    """Also in another spelling: the split looks at the normalised text."""
    stand.train("one")
    file = tmp_path / "mine.txt"
    file.write_text(f"a new prompt\n{stand.trained_on[0].upper()}\n")

    with pytest.raises(UsageError, match="1 of 2 prompts were trained on"):
        evaluate(stand.line(), prompts=file)
    assert stand.built == []

    found = evaluate(stand.line(), prompts=file, seeds=1, allow_training_prompts=True)
    assert found.results["prompts"] == {"count": 2, "source": "mine.txt", "trained_on": 1}


def test_a_prompt_that_was_trained_on_is_not_held_out_by_another_spelling(stand, monkeypatch):
    """A dataset that was built with another val_fraction trained on what would be held out today."""
    taught, *left = stand.held_out
    captions = {"train": [taught.upper()], "validation": [stand.trained_on[0], "a prompt of no list"]}
    monkeypatch.setattr(prompts, "dataset_captions", lambda store, split: iter(captions[split]))

    found = prompts.held_out_prompts(stand.line())

    assert sorted(found.texts) == sorted([*left, "a prompt of no list"])


def test_a_run_that_holds_nothing_out_needs_prompts(stand):
    stand.train("one")
    with pytest.raises(UsageError, match="no held-out prompts"):
        evaluate(stand.line(**{"pairs.val_fraction": 0.0}))


def test_a_measure_that_does_not_know_the_prompts_says_so_before_anything_is_made(stand):
    stand.train("one")
    with pytest.raises(UsageError, match="no prompt of the shapes world"):
        evaluate(stand.line(), measure="shapes-oracle")
    assert stand.built == []


def test_pictures_that_are_all_rejected_end_the_evaluation(stand, monkeypatch):
    stand.train("one")

    class Black:
        def setup(self): ...

        def generate(self, prompts, seeds):
            return [None] * len(prompts)

    monkeypatch.setattr(base, "build_backend", lambda *parts, **options: Black())
    with pytest.raises(RpoError, match="none of"):
        evaluate(stand.line(), seeds=1)


@pytest.mark.parametrize("name", ["../out", "", "a/b", ".hidden"])
def test_a_name_is_no_path(stand, name):
    with pytest.raises(UsageError, match="--name"):
        evaluate(stand.line(), name=name)


def test_a_finished_evaluation_loads_no_model_library(stand):
    stand.train("one")
    evaluate(stand.line(), seeds=1)
    code = (
        "import sys; from rpo_cli import evaluate, open_line;"
        "print(evaluate(open_line(sys.argv[1]), seeds=1).skipped,"
        " [m for m in ('torch', 'diffusers', 'transformers', 'datasets') if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(stand.run)], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "True []"
