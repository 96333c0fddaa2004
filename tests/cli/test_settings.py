"""`rpo settings`: value, unit and origin of every setting, for people, scripts and programs."""

import json

import pytest


@pytest.fixture
def run(rpo, place):
    assert rpo("generate", place.run, *place.options, "--steps", 3).code == 0
    return place.run


def test_the_table_has_value_unit_and_origin_and_fits_80_columns(rpo, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = rpo("settings", run)
    assert done.code == 0
    lines = done.out.splitlines()
    assert "[generate]" in lines
    (steps,) = [line for line in lines if line.startswith("steps ") and "denoising" in line][:1]
    assert steps.split()[:4] == ["steps", "3", "denoising", "steps"]
    assert "rpo generate, 20" in steps
    assert max(map(len, lines)) <= 80


def test_only_what_was_changed_is_told_when_asked_so(rpo, run):
    told = json.loads(rpo("settings", run, "--changed", "--json").out)["settings"]
    names = {item["name"] for item in told}
    assert {"generate.steps", "generate.generator", "prompts.file"} <= names
    assert "generate.width" not in names
    assert all(item["origin"] != "default" for item in told)


def test_one_setting_is_told_with_what_it_hangs_on_and_quietly_as_its_value(rpo, run):
    done = rpo("settings", run, "generate.steps")
    assert done.out.splitlines()[0] == "generate.steps = 3 (denoising steps)"
    assert "  hangs on: generate.generator" in done.out
    assert "belongs to the run" in done.out
    assert rpo("settings", run, "generate.steps", "--quiet").out == "3\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [(["generate.stepz"], "did you mean 'generate.steps'"), (["nothing.here"], "no such setting")],
)
def test_a_wrong_name_ends_with_two_lines_and_exit_code_2(rpo, run, words, told):
    done = rpo("settings", run, *words)
    assert (done.code, done.out) == (2, "")
    error, hint = done.err.splitlines()
    assert error.startswith("error: ")
    assert told in error
    assert hint.startswith("hint: rpo settings ")


def test_a_place_that_is_no_run_is_refused(rpo, tmp_path):
    done = rpo("settings", tmp_path / "nowhere")
    assert (done.code, "no run here" in done.err) == (2, True)
