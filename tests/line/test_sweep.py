"""A sweep: its names, what it keeps, what it starts, and the differences it tells, counted by hand."""

import json
import os
import signal
import sys
import time
import xml.etree.ElementTree as ET

import pytest

from rpo_cli.errors import MissingDependency, RpoError, RunLocked, UsageError
from rpo_cli.line import child
from rpo_cli.line.sweep import checks
from rpo_cli.line.sweep import trainings as sweep_trainings
from rpo_cli.line.sweep.run import plan_sweep, sweep
from rpo_cli.line.sweep.trainings import curves_of
from rpo_cli.line.sweep.variants import Request, number, remember, request_of, trainings, variants

METHODS = {"methods": ("dpo", "sft"), "seeds": 2, "images_per_prompt": 2}


@pytest.fixture
def started(stand, monkeypatch):
    """The command lines of children, each of which leaves a finished training that paints brighter.

    dpo by one step with seed 0 and two with seed 1, sft by three with either.
    """
    seen = []

    def run(words, log, watch):
        seen.append(words)
        name, seed = words[words.index("--name") + 1], int(words[words.index("--seed") + 1])
        folder = stand.train(name, steps=3 if "sft" in words else 1 + seed)
        rows = [{"split": "validation", "step": at, "implicit_accuracy": 0.5 + at * seed} for at in (0, 1)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        watch()

    def made(line, told, training):
        return line.store.files.exists(f"train/{training.name}/done.json")

    monkeypatch.setattr(sweep_trainings, "run_command", run)
    monkeypatch.setattr(sweep_trainings, "is_finished", made)
    monkeypatch.setattr(checks, "rows_of_split", lambda folder: 1)
    return seen


# --- names ---------------------------------------------------------------------------------------------


def test_only_what_is_given_is_an_axis_and_part_of_a_name():
    plain = variants(Request(methods=("dpo", "kto", "dpo")))
    grid = variants(Request(methods=("dpo",), betas=(500, 2000), learning_rates=(1e-5, 1e-4)))

    assert [(one.label, one.options) for one in plain] == [
        ("dpo", {"train.method": "dpo"}),
        ("kto", {"train.method": "kto"}),
    ]
    assert [one.label for one in grid] == [
        *("dpo-b500-lr1e-5", "dpo-b500-lr0.0001", "dpo-b2000-lr1e-5", "dpo-b2000-lr0.0001")
    ]
    assert grid[1].options == {"train.method": "dpo", "train.beta": 500, "train.learning_rate": 1e-4}


@pytest.mark.parametrize(
    ("value", "text"),
    [(500.0, "500"), (0.5, "0.5"), (1e-5, "1e-5"), (5e6, "5e6"), (1 / 3, "0.3333333333333333")],
)
def test_numbers_of_names_are_short_and_no_two_alike(value, text):
    assert number(value) == text
    assert float(text) == value


def test_trainings_come_seed_by_seed():
    found = trainings("first", variants(Request(methods=("dpo", "kto"))), (3, 4))

    assert [each.name for each in found] == [
        *("first-dpo-s3", "first-kto-s3", "first-dpo-s4", "first-kto-s4")
    ]


def test_a_name_too_long_for_a_training_is_refused():
    with pytest.raises(UsageError, match="no name of a training"):
        trainings("x" * 60, variants(Request(methods=("dpo",))), (0,))


# --- what run.json keeps -------------------------------------------------------------------------------


def test_a_sweep_goes_on_with_what_it_was_told_and_says_so(stand):
    line = stand.line()
    given = {
        **METHODS,
        "betas": (500.0,),
        "prompts": str(stand.run / "own.txt"),
        "options": {"train.steps": 6},
    }
    remember(line, "first", request_of(line, "first", given))

    again = request_of(line, "first", {"seeds": 3})

    assert again == Request(**{**given, "seeds": 3})
    (said,) = (text for text in line.said if text.startswith("sweep 'first' goes on"))
    assert "--method dpo,sft" in said
    assert "--beta 500;" in said
    assert "train.steps 6" in said
    assert "--seeds" not in said
    kept = json.loads((stand.run / "run.json").read_text())["sweeps"]["first"]
    assert kept["prompts"] == "./own.txt"


def test_what_was_told_can_be_taken_back(stand):
    line = stand.line()
    remember(line, "first", request_of(line, "first", {**METHODS, "betas": (500.0,)}))

    assert request_of(line, "first", {}, ["beta", "seeds"]) == Request(
        methods=("dpo", "sft"), images_per_prompt=2
    )
    with pytest.raises(UsageError, match="did you mean 'beta'"):
        request_of(line, "first", {}, ["betta"])


def test_a_sweep_that_nobody_described_is_refused_and_the_nearest_named(stand):
    line = stand.line()
    remember(line, "first", request_of(line, "first", METHODS))

    with pytest.raises(UsageError, match="did you mean 'first'"):
        request_of(line, "frist", {})


def test_other_settings_for_a_sweep_that_has_begun_are_refused(stand):
    line = stand.line()
    remember(line, "first", request_of(line, "first", {**METHODS, "options": {"train.steps": 6}}))
    changed = {"options": {"train.steps": 7}}

    assert request_of(line, "first", changed).options == {"train.steps": 7}
    stand.train("first-dpo-s0", finished=False)
    with pytest.raises(UsageError, match=r"train\.steps 6, not 7"):
        request_of(line, "first", changed)
    assert request_of(line, "first", {"options": {"train.save_every": 7}, "seeds": 3}).seeds == 3


def test_a_broken_entry_of_run_json_is_named(stand):
    line = stand.line()
    line.store.update_manifest(
        lambda now: {**now, "sweeps": {"first": {"methods": ["dpo"], "seeds": "many"}}}
    )

    with pytest.raises(UsageError, match=r"run\.json, sweeps: seeds"):
        request_of(line, "first", {})


# --- the whole -----------------------------------------------------------------------------------------


def test_trainings_evaluation_and_differences_counted_by_hand(stand, started):
    """Means over seeds: dpo 1.5, sft 3 above the base. sft less dpo: 1 with seed 1, 2 with seed 0, 3/2 with
    both, drawn 1/4, 1/4, 1/2."""
    line = stand.line(**{"train.steps": 6})
    options = json.loads((stand.run / "run.json").read_text())["options"]

    found = sweep(line, "first", METHODS)

    assert [words[3] for words in started] == [
        *("first-dpo-s0", "first-sft-s0", "first-dpo-s1", "first-sft-s1")
    ]
    assert started[2][:8] == [
        *("train", line.store.url, "--name", "first-dpo-s1", "--method", "dpo", "--seed", "1")
    ]
    assert "train.steps=6" in started[0]
    (difference,) = found.differences
    assert (difference.of, difference.less, difference.value) == ("sft", "dpo", 1.5)
    assert (difference.low, difference.high, difference.verdict) == (1.0, 2.0, "higher")
    assert difference.pictures == 2 * len(stand.held_out)
    gains = {
        row["label"]: row["against_base"]["rewards"]["clip"]["difference"]["value"]
        for row in found.evaluation.results["settings"][1:]
    }
    assert gains == {"dpo": 1.5, "sft": 3.0}
    written = json.loads((stand.run / "sweep/first/results.json").read_text())
    assert written["differences"][0]["value"] == 1.5
    after = json.loads((stand.run / "run.json").read_text())
    assert after["options"] == options
    assert set(after["sweeps"]) == {"first"}
    assert after["evaluations"]["first"]["adapter"][0] == "dpo=first-dpo-s0,first-dpo-s1"


def test_the_plot_has_one_band_per_setting(stand, started):
    sweep(stand.line(), "first", METHODS)

    drawn = ET.fromstring((stand.run / "sweep/first/curves.svg").read_text())
    bands = [item for item in drawn.iter() if item.get("class") == "band"]
    assert len(bands) == 2
    texts = [item.text for item in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "held-out pairs that the policy ranks as their labels, share"


def test_what_is_there_is_not_made_again_and_gives_the_same_bytes(stand, started):
    sweep(stand.line(), "first", METHODS)
    files = [stand.run / "sweep/first" / name for name in ("results.json", "curves.svg")]
    before = [file.read_bytes() for file in files]

    again = sweep(stand.line(), "first", {})

    assert len(started) == 4
    assert again.evaluation.skipped
    assert [file.read_bytes() for file in files] == before


def test_more_seeds_are_added_to_those_that_are_there(stand, started):
    sweep(stand.line(), "first", METHODS)

    sweep(stand.line(), "first", {"seeds": 3})

    assert [words[3] for words in started[4:]] == ["first-dpo-s2", "first-sft-s2"]


def test_a_plan_tells_what_is_there_and_writes_nothing(stand, started):
    stand.train("first-dpo-s0")
    stand.train("first-sft-s0", finished=False)
    before = (stand.run / "run.json").read_bytes()

    plan = plan_sweep(stand.line(), "first", METHODS)

    states = {each.name: each.state for each in plan.trainings}
    assert states == {
        "first-dpo-s0": "finished",
        "first-sft-s0": "begun",
        "first-dpo-s1": "missing",
        "first-sft-s1": "missing",
    }
    assert (plan.prompts, plan.pictures, plan.seeds) == (len(stand.held_out), 2, (0, 1))
    assert (started, (stand.run / "run.json").read_bytes()) == ([], before)
    assert not (stand.run / "sweep").exists()


def test_seeds_begin_with_the_one_that_is_set(stand, started):
    plan = plan_sweep(stand.line(**{"train.seed": 7}), "first", METHODS)

    assert plan.seeds == (7, 8)
    assert plan.trainings[0].name == "first-dpo-s7"


def test_a_training_that_fails_is_named_with_its_log_and_the_others_stay(stand, started, monkeypatch):
    run = sweep_trainings.run_command

    def fail(words, log, watch):
        if "first-sft-s0" in words:
            raise MissingDependency("torch is not installed", f"its output: {log}")
        run(words, log, watch)

    monkeypatch.setattr(sweep_trainings, "run_command", fail)

    with pytest.raises(MissingDependency, match="training 'first-sft-s0': torch") as told:
        sweep(stand.line(), "first", METHODS)

    assert "logs/first-sft-s0.log" in told.value.hint
    assert (stand.run / "train/first-dpo-s0/done.json").exists()


@pytest.mark.parametrize(
    ("options", "given", "said"),
    [
        ({}, {"methods": ("dpo", "ktoo")}, "did you mean 'kto'"),
        ({}, {"methods": ("ddpo",)}, r"train\.rounds: ddpo"),
        ({}, {"methods": ("spin",)}, r"train\.rounds: spin"),
        ({}, {"methods": ("dpo", "sft"), "betas": (5.0,)}, r"train\.beta: sft has none"),
        ({}, {"methods": ("dpo",), "measure": "nope"}, "measures"),
        ({}, {"methods": ("dpo",), "prompts": "/nope.txt"}, "no such file"),
        ({}, {"methods": ("dpo",), "column": "text"}, "--column"),
        ({}, {"methods": ("dpo",), "rewards": ("clip=/nope",)}, "/nope"),
        ({}, {"methods": ("dpo",), "guidance": -1.0}, "--guidance"),
        ({}, {"methods": ("dpo",), "seeds": 0}, "--seeds"),
        ({"generate.steps": 4}, {"methods": ("dpo",)}, "of the run itself"),
        ({"train.name": "x"}, {"methods": ("dpo",)}, r"train\.name"),
        ({"train.group_size": 7}, {"methods": ("kto",)}, r"train\.group_size"),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(stand, started, options, given, said):
    before = (stand.run / "run.json").read_bytes()

    with pytest.raises(UsageError, match=said):
        sweep(stand.line(**options), "first", given)

    assert (started, (stand.run / "run.json").read_bytes()) == ([], before)
    assert not (stand.run / "eval").exists()


def test_a_run_without_pairs_is_told_what_to_do(stand):
    with pytest.raises(UsageError, match="no dataset yet"):
        sweep(stand.line(), "first", METHODS)


def test_a_training_that_another_process_is_at_is_waited_for_and_then_told(stand, started, monkeypatch):
    monkeypatch.setattr(sweep_trainings, "WAIT", 0.3)
    line = stand.line()

    with line.store.lock("train-first-dpo-s0"), pytest.raises(RunLocked):
        sweep(line, "first", METHODS)

    assert started == []


def test_methods_that_count_rounds_are_told_no_steps(stand, started):
    line = stand.line(**{"train.steps": 6, "train.rounds": 2})

    asked = Request(methods=("ddpo",), options={"train.steps": 6, "train.rounds": 2})
    (told,) = checks.ready(line, asked, variants(asked))

    assert told.options == {"train.rounds": 2, "train.method": "ddpo"}
    assert "train.steps does not count for ddpo: it counts rounds" in line.said


# --- curves --------------------------------------------------------------------------------------------


def written(stand, name, rows):
    folder = stand.run / "train" / name
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text("{}")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows(split, number, *values):
    return [{"split": split, "step": step, number: value} for step, value in enumerate(values)]


def test_a_curve_is_the_mean_and_range_over_seeds_where_all_have_a_number(stand):
    written(stand, "a", rows("validation", "implicit_accuracy", 0.5, 0.6, 0.9))
    written(stand, "b", rows("validation", "implicit_accuracy", 0.5, 0.8))

    found = curves_of(stand.line().store, {"dpo": ["a", "b"]})

    assert (found.split, found.name, found.left_out) == ("validation", "implicit_accuracy", ())
    assert found.bands["dpo"] == [(0, 0.5, 0.5, 0.5), (1, pytest.approx(0.7), 0.6, 0.8)]


def test_the_number_that_all_settings_have_is_drawn(stand):
    written(stand, "a", [*rows("validation", "implicit_accuracy", 0, 1), *rows("train", "loss", 3, 2)])
    written(stand, "b", rows("train", "loss", 4, 1))

    found = curves_of(stand.line().store, {"dpo": ["a"], "sft": ["b"]})

    assert (found.name, set(found.bands)) == ("loss", {"dpo", "sft"})
    assert "not to be compared" in found.said


def test_settings_without_a_common_number_are_told_and_those_without_any_give_no_plot(stand):
    written(stand, "a", rows("validation", "implicit_accuracy", 0, 1))
    written(stand, "b", rows("rounds", "clip_mean", 4, 1))
    store = stand.line().store

    assert curves_of(store, {"dpo": ["a"], "online": ["b"]}).left_out == ("online",)
    assert curves_of(store, {"online": ["b"]}).said == "mean clip reward of the pictures drawn"
    assert curves_of(store, {"none": ["c"]}) is None


def test_rewards_of_both_kinds_of_rounds_are_one_number(stand):
    written(stand, "a", [*rows("train", "reward_clip", 3, 4), *rows("train", "reward_std", 1, 1)])
    written(stand, "b", rows("rounds", "clip_mean", 4, 1))

    found = curves_of(stand.line().store, {"ddpo": ["a"], "dpo": ["b"]})

    assert (found.name, found.unit, found.left_out) == ("clip", "round", ())
    assert [band.mean for band in found.bands["ddpo"]] == [3, 4]


# --- processes -----------------------------------------------------------------------------------------

SLEEPER = """
import json, os, sys, threading, time
sys.path[:] = json.loads(sys.argv.pop(1))
from rpo_cli.cli import tethered
threading.Thread(target=tethered._end_with_parent, daemon=True).start()
print(os.getpid(), flush=True)
time.sleep(60)
"""


def test_a_child_does_what_rpo_does_and_its_words_go_to_the_log(tmp_path):
    log = tmp_path / "logs" / "child.log"

    child.run_command(["list", "measures"], log)

    assert "shapes-oracle" in log.read_text()


def test_a_childs_failure_is_raised_with_its_own_words_and_kind(tmp_path):
    log = tmp_path / "child.log"

    with pytest.raises(UsageError, match="no such option: --nope") as told:
        child.run_command(["train", "--nope"], log)

    assert str(log) in told.value.hint


def program(code):
    return lambda *words: [sys.executable, "-c", code, json.dumps(sys.path)]


def test_a_child_that_is_killed_is_told_by_its_signal(tmp_path, monkeypatch):
    log = tmp_path / "child.log"
    monkeypatch.setattr(child, "own_command", program("import os; os.kill(os.getpid(), 9)"))

    with pytest.raises(RpoError, match="signal 9"):
        child.run_command([], log)


def test_a_child_ends_when_its_parent_stops_waiting(tmp_path, monkeypatch):
    log, began = tmp_path / "child.log", time.monotonic()
    monkeypatch.setattr(child, "own_command", program(SLEEPER))

    def stop():
        if log.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child.run_command([], log, stop)

    assert time.monotonic() - began < 15
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), signal.SIGCONT)
