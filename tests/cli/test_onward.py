"""A command's end names the next one, as it works when it is typed."""

import shlex

import pytest

from rpo_cli.cli import step
from rpo_cli.cli.output import Output
from rpo_cli.line.session import open_line
from rpo_cli.line.status import following


def next_of(done):
    """The words after "next: rpo" in the last line on stderr."""
    last = done.err.splitlines()[-1]
    assert last.startswith("next: rpo "), done.err
    return shlex.split(last.removeprefix("next: rpo "))


def test_the_steps_of_the_line_name_each_other(tmp_path):
    """Of a run whose preset names every model, each command works as it stands."""
    line, command, seen = open_line(tmp_path / "run", preset="shapes"), "generate", []
    while command != "report":
        _, command, run = following(line, command).split()
        seen.append(command)
        assert run == str(tmp_path / "run")

    assert seen == ["critique", "edit", "build-pairs", "train", "eval", "report"]


def test_a_run_without_edits_goes_from_pictures_to_pairs(tmp_path):
    line = open_line(tmp_path / "run", {"pairs.strategy": "seeds"}, preset="shapes")

    assert following(line, "generate") == f"rpo build-pairs {tmp_path / 'run'}"


def test_a_model_that_nobody_has_named_is_asked_for(tmp_path):
    line = open_line(tmp_path / "run", {"generate.generator": "model"}, preset="gpu")

    assert following(line, "critique").endswith(" --editor FOLDER_OR_HUB_ID")


def test_the_next_command_is_quoted_and_keeps_a_file_of_settings(rpo, place, tmp_path):
    """The file counts for the command that names it alone."""
    own = tmp_path / "own settings.toml"
    own.write_text('[generate]\nimages_per_prompt = 1\n[critique]\ncritic = "org/critic"\n')
    run = tmp_path / "a run"

    done = rpo("generate", run, *place.options, "--config", own)

    assert next_of(done) == ["critique", str(run), "--config", str(own)]


def test_a_look_ahead_is_followed_by_the_same_words_without_it(rpo, place):
    words = ["generate", str(place.run), *map(str, place.options)]

    assert next_of(rpo(*words[:2], "--dry-run", *words[2:])) == words
    assert next_of(rpo(*words, "--probe", 1)) == words
    assert next_of(rpo(*words, "--probe=1")) == words


def test_a_suggested_beta_is_in_the_next_command(rpo, tmp_path, monkeypatch):
    from rpo_cli.line import training
    from rpo_cli.train.composition import BetaAdvice

    advice = BetaAdvice("dpo", 200.0, 100.0, 0.2, 0.1, 0.01, 64, "a rule")
    monkeypatch.setattr(training, "suggest_beta", lambda line: advice)
    monkeypatch.setattr("rpo_cli.line.preflight.preflight", lambda line, steps: None)

    done = rpo("train", tmp_path, "--suggest-beta", "--method", "dpo")

    said = ["train", str(tmp_path), "--method", "dpo", "--beta", "200", "--beta-from", "salesforce"]
    assert next_of(done) == said


@pytest.mark.parametrize("option", ["--json", "--quiet"])
def test_scripts_are_told_nothing(rpo, place, option):
    assert "next:" not in rpo("generate", place.run, *place.options, option).err


def test_a_share_of_the_rows_has_no_next_command(rpo, place):
    """The others must be made and merged first."""
    assert "next:" not in rpo("generate", place.run, *place.options, "--shard", "0/2").err


def test_a_failure_stays_two_lines(rpo, tmp_path):
    done = rpo("critique", tmp_path / "nowhere")

    assert (done.code, "next:" in done.err) == (2, False)


def test_commands_that_may_stand_anywhere_point_to_status(rpo, place, tmp_path):
    rpo("generate", place.run, *place.options)

    for words in (["merge", tmp_path / "other", place.run], ["upgrade", place.run]):
        assert next_of(rpo(*words))[0] == "status"
    assert next_of(rpo("init", tmp_path / "fresh")) == ["run", str(tmp_path / "fresh")]


def test_outside_a_call_of_the_command_nothing_is_made_up(capsys):
    class Context:
        obj = None

        def find_root(self):
            return self

    step.again(Context(), Output("human"), ["--dry-run"])

    assert capsys.readouterr() == ("", "")
