"""What the reports say to people, and when a report is a failure."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rpo_cli.cli import reports
from rpo_cli.cli.output import Output
from rpo_cli.errors import RpoError
from rpo_cli.line.dataset.build import PairsReport
from rpo_cli.line.run import RunReport
from rpo_cli.line.stage import StageReport
from rpo_cli.train.run import TrainReport


def stage(name="generate", wanted=8, present=2, made=5, rejects=None):
    rejects = {"black_image": 1} if rejects is None else rejects
    return StageReport(name, wanted, present, made, sum(rejects.values()), rejects, 4.0, 2.5)


def pairs(accepted=3):
    return PairsReport(5, accepted, 1, {"band": 2}, train=2, validation=1, path="demo/dataset")


TRAINED = TrainReport(
    "default",
    200,
    2,
    Path("demo/train/default/adapter"),
    {"step": 1, "loss": 0.6931471},
    {"step": 200, "loss": 0.5},
)
WHOLE = RunReport([stage(), stage("score")], pairs(), TRAINED, Path("demo/contact-sheet.png"))


def test_a_run_ends_with_a_table_and_where_to_look(capsys):
    """Rows by step, dropped by reason, training's first and last loss, sheet, dataset and adapter."""
    reports.whole(Output("human"), WHOLE, "demo")
    out = capsys.readouterr().out

    assert re.search(r"^generate +7 +8 +black_image 1 +4\.0$", out, re.MULTILINE)
    assert re.search(r"^build-pairs +3 +5 +band 2$", out, re.MULTILINE)
    assert re.search(r"^train +loss +0\.69315 +0\.5$", out, re.MULTILINE)
    assert out.splitlines()[-3:] == [
        "contact sheet: demo/contact-sheet.png",
        "dataset: demo/dataset",
        "trained: demo/train/default/adapter",
    ]


def test_a_run_that_stopped_early_shows_what_there_is(capsys):
    reports.whole(Output("human"), RunReport([stage()], None, None, None), "demo")

    assert capsys.readouterr().out.splitlines()[-1].startswith("generate")


def test_a_run_as_json_is_the_whole_report(capsys):
    reports.whole(Output("json"), WHOLE, "demo")
    report = json.loads(capsys.readouterr().out)

    assert report["pairs"]["dropped"] == {"band": 2}
    assert report["train"]["adapter"] == "demo/train/default/adapter"
    assert [item["stage"] for item in report["stages"]] == ["generate", "score"]


@pytest.mark.parametrize(
    "report",
    [
        RunReport([stage(present=0, made=0)], None, None, None),
        RunReport([stage()], pairs(accepted=0), None, None),
    ],
    ids=["no rows", "no pairs"],
)
def test_a_step_that_accepted_nothing_is_a_failure_after_its_report(capsys, report):
    with pytest.raises(RpoError) as caught:
        reports.whole(Output("human"), report, "demo")

    assert caught.value.exit_code == 1
    assert "generate" in capsys.readouterr().out


@pytest.mark.parametrize(
    "report",
    [stage(wanted=0, present=0, made=0, rejects={}), stage(present=7, made=0), stage(present=0, made=1)],
    ids=["nothing wanted", "all there", "one made"],
)
def test_no_rows_wanted_or_any_accepted_is_no_failure(report):
    reports.refuse_empty([report], "demo")


def test_build_pairs_tells_scores_verdicts_and_the_dataset(capsys):
    reports.pairs(Output("human"), stage("score"), pairs(), "demo")

    assert capsys.readouterr().out.splitlines() == [
        "score: 7 of 8 rows (2 were there, 5 made), 1 rejected (black_image 1), 4.0 s, 2.5 rows/s",
        "pairs: 3 of 5 candidates, 1 reversed; dropped: band 2",
        "dataset: demo/dataset",
    ]


def test_a_training_that_was_there_says_so(capsys):
    reports.trained(Output("human"), TRAINED)
    reports.trained(Output("quiet"), replace(TRAINED, skipped=True))
    reports.trained(Output("human"), replace(TRAINED, skipped=True))

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "default: trained, 200 steps on 2 pairs"
    assert lines.count("demo/train/default/adapter") == 1
    assert "default: was trained before, 200 steps on 2 pairs" in lines
