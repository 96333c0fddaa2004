"""`rpo sweep` at the door: what it prints, for people and programs, and what it hands on."""

import csv
import io
import json
from dataclasses import replace

import pytest

from rpo_cli.cli import sweeps
from rpo_cli.cli.output import Output
from rpo_cli.cli.sweep import listed
from rpo_cli.errors import UsageError
from rpo_cli.line.evaluation.evaluate import Evaluation
from rpo_cli.line.sweep import run
from rpo_cli.line.sweep.run import Planned, Sweep, SweepPlan
from rpo_cli.line.sweep.trainings import Curves
from rpo_cli.metrics.comparison import NONE, Difference
from rpo_cli.visuals.bands import Band

LONG = "plack\x1bett-luce-b2000-lr0.00012345"  # as long as labels get, and not to be trusted


def span(value, low, high):
    return {"value": value, "low": low, "high": high}


def row(label, right=0.5, **gain):
    figures = {
        "label": label,
        "members": [f"{label}-s0", f"{label}-s1"],
        "rewards": {"vqascore": {"mean": span(0.5, 0.25, 0.75)}},
        "measured": {"all": {"prompts": 4, "attributes": {"right": span(right, 0, 1), "colour": None}}},
    }
    beside = {"vqascore": {"difference": span(*gain["gain"])}} if gain else {}
    return {**figures, **({"against_base": {"rewards": beside, "measured": {}}} if gain else {})}


PLAN = SweepPlan(
    "first",
    (0, 1),
    tuple(
        Planned(f"first-{label}-s{seed}", label, "dpo", 500.0, None, seed, state)
        for seed, state in ((0, "finished"), (1, "missing"))
        for label in ("dpo", LONG)
    ),
    prompts=4,
    pictures=2,
)
RESULTS = {
    "prompts": {"count": 4, "source": "own.txt", "trained_on": 0},
    "seeds": 2,
    "rejected": {"base": {}, "first-dpo-s0": {"black_image": 3}},
    "settings": [
        {**row("base"), "members": ["base"]},
        row("dpo", gain=(0.125, 0.0625, 0.25)),
        row(LONG, gain=(0.0, -0.5, 0.5)),
    ],
}
FOUND = Sweep(
    PLAN,
    "run/sweep/first/results.json",
    "run/sweep/first/curves.svg",
    Curves("train", "loss", "loss, each method's own", "step", {"dpo": [Band(0, 1, 1, 1)]}, (LONG,)),
    (
        Difference("reward", "vqascore", LONG, "dpo", -0.125, -0.25, 0.0, 4, 8, NONE),
        Difference("measure", "right", LONG, "dpo", 0.25, 0.125, 0.5, 4, 8, "higher"),
        Difference("measure", "colour", LONG, "dpo", None, None, None, 0, 0, "no common picture"),
    ),
    Evaluation("run/eval/first/results.json", RESULTS),
)


def test_a_sweep_is_told_in_tables_that_fit_80_columns(capsys):
    sweeps.found(Output("human"), FOUND)
    out, err = capsys.readouterr()

    assert [line for line in (out + err).splitlines() if len(line) > 80] == []
    assert "\x1b" not in out
    assert "2 settings x 2 training seeds (0, 1), 4 trainings" in out
    assert "+0.125 [+0.062, +0.250]" in out
    assert "-0.125 [-0.250, +0.000]  no" in out  # its verdict: no difference, in two lines of its cell
    assert "rejected: first-dpo-s0 3" in out
    assert "draws prompts, the same for both settings, and" in out
    assert "without it: plackett-luce" in " ".join(out.split())
    assert out.endswith("results: run/sweep/first/results.json\n")
    assert "2 training seeds are few" in err
    assert "4 prompts are few" in err


def test_an_interval_that_contains_0_is_said_to_be_no_difference(capsys):
    short = [replace(one, of="kto") for one in FOUND.differences]

    sweeps.found(Output("human"), replace(FOUND, differences=tuple(short)))

    out = capsys.readouterr().out
    assert "vqascore  kto - dpo  -0.125 [-0.250, +0.000]  no difference" in out
    assert "right     kto - dpo  +0.250 [+0.125, +0.500]  higher" in out
    assert "colour" not in out  # attributes stand in --json, md and csv


def test_an_end_beside_0_never_reads_as_0(capsys):
    near = replace(FOUND.differences[0], of="kto", value=0.002, low=0.0002, high=0.004, verdict="higher")

    sweeps.found(Output("human"), replace(FOUND, differences=(near,)))

    assert "+0.002000 [+0.000200, +0.004000]  higher" in capsys.readouterr().out


def test_one_seed_is_said_to_tell_nothing_of_trainings(capsys):
    sweeps.found(Output("human"), replace(FOUND, plan=replace(PLAN, seeds=(0,))))

    assert "one training seed: the intervals say nothing of how much trainings differ" in (
        capsys.readouterr().err
    )


def test_json_has_every_figure(capsys):
    sweeps.found(Output("json"), FOUND)

    found = json.loads(capsys.readouterr().out)
    assert [one["verdict"] for one in found["differences"]] == [NONE, "higher", "no common picture"]
    assert found["trainings"][0]["name"] == "first-dpo-s0"
    assert found["curves"]["bands"] == {"dpo": [{"at": 0, "mean": 1, "low": 1, "high": 1}]}
    assert found["evaluation"]["settings"][1]["label"] == "dpo"
    assert (found["plot"], found["seeds"]) == ("run/sweep/first/curves.svg", [0, 1])


def test_csv_has_means_gains_and_differences_with_all_digits(capsys):
    sweeps.found(Output("human"), FOUND, "csv")
    out, err = capsys.readouterr()

    rows = list(csv.DictReader(io.StringIO(out)))
    assert {"setting": "dpo", "less": "base", "estimate": "0.125"}.items() <= rows[2].items()
    last = rows[-2]
    assert (last["less"], last["name"], last["low"], last["verdict"]) == ("dpo", "right", "0.125", "higher")
    assert rows[-1]["estimate"] == ""
    assert "results: run/sweep/first/results.json" in err


def test_markdown_has_both_tables(capsys):
    sweeps.found(Output("human"), FOUND, "md")
    out = capsys.readouterr().out

    assert "| vqascore | base | 0.500 [0.250, 0.750] |  |" in out
    assert "| -0.125 [-0.250, +0.000] | no difference |" in out


def test_quiet_says_the_path_alone(capsys):
    sweeps.found(Output("quiet"), FOUND)

    assert capsys.readouterr() == ("run/sweep/first/results.json\n", "")


def test_a_plan_names_the_trainings_and_how_far_they_are(capsys):
    sweeps.planned(Output("human"), PLAN)
    out = capsys.readouterr().out

    assert [line for line in out.splitlines() if len(line) > 80] == []
    assert "finished" in out
    assert "to train: 2 of 4" in out
    assert "5 models (the base too) draw 4 prompts x 2 start noises" in " ".join(out.split())
    sweeps.planned(Output("json"), PLAN)
    assert json.loads(capsys.readouterr().out)["plan"]["trainings"][1]["beta"] == 500.0


def test_the_door_hands_on_what_is_given_and_no_more(rpo, place, monkeypatch):
    rpo("generate", place.run, *place.options)
    seen = []
    monkeypatch.setattr(run, "sweep", lambda *asked: seen.append(asked) or FOUND)

    done = rpo(
        *(
            "sweep",
            place.run,
            "--method",
            "dpo, kto",
            "--beta",
            "500,2e3",
            "--steps",
            60,
            "--name",
            "first",
        ),
        *("--reward", "clip=a", "--set", "train.rank=8", "--device", "cpu", "--unset", "limit"),
    )

    ((line, name, asked, unset),) = seen
    assert (done.code, name, unset) == (0, "first", ["limit"])
    given = {key: value for key, value in asked.items() if value is not None}
    assert given == {"methods": ("dpo", "kto"), "betas": (500.0, 2000.0), "rewards": ("clip=a",)}
    assert line.resolved.options("training", earlier=False) == {"train.steps": 60, "train.rank": 8}
    assert line.resolved.options("command", earlier=False) == {"run.device": "cpu"}
    assert done.err.endswith(f"next: rpo report {place.run}\n")


def test_a_dry_run_hands_nothing_to_the_sweep_and_tells_the_command(rpo, place, monkeypatch):
    rpo("generate", place.run, *place.options)
    monkeypatch.setattr(run, "sweep", lambda *asked: pytest.fail("a sweep"))
    monkeypatch.setattr(run, "plan_sweep", lambda *asked: PLAN)

    done = rpo("sweep", place.run, "--method", "dpo", "--dry-run")

    assert (done.code, "to train: 2 of 4" in done.out) == (0, True)
    assert done.err.endswith(f"next: rpo sweep {place.run} --method dpo\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "dppo"], "did you mean 'dpo'"),
        (["--method", "dpo", "--beta", "high"], "--beta high: not numbers"),
        (["--method", "dpo", "--beta", "nan"], "--beta nan: not numbers"),
        (["--method", "dpo", "--learning-rate", "1e-4,-1"], "--learning-rate"),
        (["--method", ","], "--method ',': names nothing"),
        (["--method", "dpo", "--steps", 0], "train.steps"),
        (["--method", "dpo", "--name", "a b"], "--name a b"),
        (["--method", "dpo", "--set", "train.stepz=3"], "train.stepz"),
        (["--method", "dpo", "--set", "generate.steps=3"], "generate.steps: of the run itself"),
        (["--name", "second"], "no method is named"),
        (["--method", "dpo", "--format", "md", "--json"], "--format"),
    ],
)
def test_a_wrong_ask_is_two_lines_and_writes_nothing(rpo, place, arguments, said):
    rpo("generate", place.run, *place.options)
    before = (place.run / "run.json").read_bytes()

    done = rpo("sweep", place.run, *arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "\nhint: " in f"\n{done.err}"
    assert (place.run / "run.json").read_bytes() == before
    assert not (place.run / "train").exists()


def test_a_run_that_is_none_is_not_made(rpo, tmp_path):
    done = rpo("sweep", tmp_path / "none", "--method", "dpo")

    assert (done.code, (tmp_path / "none").exists()) == (2, False)


def test_lists_are_words_or_numbers_between_commas():
    assert listed("--method", " dpo ,kto,", str) == ("dpo", "kto")
    assert listed("--beta", "1e-3, 5", float) == (0.001, 5.0)
    assert listed("--beta", None, float) is None
    with pytest.raises(UsageError, match="names nothing"):
        listed("--beta", "", float)
