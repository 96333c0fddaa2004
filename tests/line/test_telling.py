"""What run.json keeps of commands beside each other, and what trainings with own models draw with."""

import json
import shutil

import pytest

from rpo_cli import open_line
from rpo_cli.errors import RunLocked
from rpo_cli.line.evaluation.models import Contender
from rpo_cli.line.evaluation.nested import nested_line
from rpo_cli.line.evaluation.prompts import earlier_request, placed, remembered_request, request_kept
from rpo_cli.line.work.models import drawn_by
from rpo_cli.shapes.preset import MODELS


def options(run):
    return json.loads((run / "run.json").read_text())["options"]


def test_what_another_command_has_taken_back_is_not_brought_back(tmp_path):
    run = tmp_path / "run"
    open_line(run, {"pairs.min_margin": 2.0, "generate.steps": 4}, preset="shapes").record()
    long = open_line(run)
    long.record()

    open_line(run, unset=["pairs.min_margin"]).record()
    open_line(run, {"generate.generator": "/models/other"}).record()
    long.record()

    assert options(run) == {"generate.generator": "/models/other"}


def test_a_preset_that_another_command_has_named_stays(tmp_path):
    run = tmp_path / "run"
    open_line(run, preset="shapes").record()
    long = open_line(run)
    open_line(run, preset="paper").record()
    long.record()
    assert json.loads((run / "run.json").read_text())["preset"] == "paper"


def test_options_of_a_training_that_another_process_works_on_are_not_kept(tmp_path):
    run = tmp_path / "run"
    open_line(run, {"train.steps": 2}, preset="shapes").record(training=True)
    line = open_line(run, {"train.steps": 99})
    with pytest.raises(RunLocked), line.training_kept():
        raise RunLocked("another rpo works on it", "wait")
    assert open_line(run).settings.train.steps == 2


def test_an_evaluation_is_asked_again_from_any_folder_and_from_a_moved_run(tmp_path, monkeypatch):
    run, known = tmp_path / "run", {"adapter": (), "reward": (), "limit": None, "assign": ()}
    (run / "train" / "first").mkdir(parents=True)
    (run / "own").mkdir()
    (tmp_path / "adapter").mkdir()
    monkeypatch.chdir(tmp_path)
    line = open_line(run, preset="shapes")
    line.record()
    from rpo_cli.settings_checks import anchored

    typed = {"adapter": ["first", "mine=./adapter,run/own"], "reward": ["clip=./adapter"], "limit": 3}
    given = placed(line, typed, tmp_path, anchored)
    with request_kept(line, "e", {**known, **given, "assign": ["run.accept_license=true"]}, known):
        pass
    run.rename(tmp_path / "moved")
    monkeypatch.chdir("/")

    again = remembered_request(open_line(tmp_path / "moved"), "e", {}, known)

    assert again["adapter"] == ["first", f"mine={tmp_path / 'adapter'},{tmp_path / 'moved' / 'own'}"]
    assert again["reward"] == [f"clip={tmp_path / 'adapter'}"]
    assert (again["limit"], again["assign"]) == (3, [])
    assert "limit" not in earlier_request(str(tmp_path / "moved"), "e", ("limit",))


def test_a_model_that_a_training_names_draws_with_its_own_numbers(tmp_path):
    """Those of the run are for the run's generator."""
    shutil.copytree(MODELS / "text-to-image", tmp_path / "other")
    named = {"train.model": str(tmp_path / "other"), "generate.steps": 4}
    line = open_line(tmp_path / "run", named, preset="shapes")

    drawn = drawn_by(line, str(tmp_path / "other"), None).options
    nested = nested_line(line, ("eval", "e", "base"), Contender("base", {}), {}).settings.generate

    assert (drawn["steps"], drawn["guidance"]) == (50, 7.5)
    assert (nested.generator, nested.steps, nested.guidance) == (str(tmp_path / "other"), None, None)
    own = drawn_by(line, line.settings.generate.generator, None).options
    assert (own["steps"], own["guidance"]) == (4, 1.15)
