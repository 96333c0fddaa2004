"""A relative path among the settings means the same from every folder, and a run can be moved."""

import pytest

from rpo_cli import open_line
from rpo_cli.errors import SettingsError
from rpo_cli.resolve import resolve
from rpo_cli.settings_checks import anchored, portable


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a list of prompts and a model in it."""
    (tmp_path / "desk" / "model").mkdir(parents=True)
    (tmp_path / "desk" / "prompts.txt").write_text("a red circle\n")
    monkeypatch.chdir(tmp_path / "desk")
    return tmp_path / "desk"


def test_an_option_is_relative_to_where_it_is_typed(here):
    found = resolve({"prompts.file": "prompts.txt", "generate.generator": "model"}).settings
    assert found.prompts.file == str(here / "prompts.txt")
    assert found.generate.generator == str(here / "model")


def test_a_hub_id_stays_one(here):
    names = {"generate.generator": "org/name", "score.rewards": ("clip=org/clip", "vqascore=qwen3-vl-8b")}
    found = resolve(names).settings
    assert (found.generate.generator, found.score.rewards) == ("org/name", names["score.rewards"])


def test_a_line_of_a_file_is_relative_to_the_file(here, tmp_path):
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "rpo.toml").write_text(
        '[prompts]\nfile = "p.txt"\n[generate]\ngenerator = "model"\n[score]\nrewards = ["clip=model"]\n'
    )
    found = open_line(run).settings
    assert found.prompts.file == str(run / "p.txt")
    assert found.generate.generator == str(run / "model")
    assert found.score.rewards == (f"clip={run / 'model'}",)


def test_a_name_of_a_file_that_is_a_folder_only_here_is_refused(here, tmp_path):
    """A loader would take the folder of where the command happens to be typed."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "rpo.toml").write_text('[generate]\ngenerator = "model"\n')
    with pytest.raises(SettingsError, match=r"'model' is a folder here, but not beside RUN/rpo\.toml"):
        open_line(tmp_path / "run")


def test_what_lies_in_the_run_is_kept_relative_to_it_and_all_else_absolute(here, tmp_path):
    values = {"prompts.file": str(tmp_path / "run" / "p.txt"), "edit.editor": "/models/e", "train.rank": 4}
    kept = portable(values, tmp_path / "run")
    assert kept == {"prompts.file": "./p.txt", "edit.editor": "/models/e", "train.rank": 4}
    assert anchored(kept, tmp_path / "run") == values
    assert anchored(kept, tmp_path / "moved")["prompts.file"] == str(tmp_path / "moved" / "p.txt")


def test_an_option_means_the_same_to_the_next_command_elsewhere(here, tmp_path, monkeypatch):
    open_line(tmp_path / "run", {"prompts.file": "prompts.txt"}).record()
    monkeypatch.chdir(tmp_path)
    assert open_line("run").settings.prompts.file == str(here / "prompts.txt")


def test_a_moved_run_finds_what_it_holds(here, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "p.txt").write_text("a red circle\n")
    open_line(run, {"prompts.file": str(run / "p.txt")}).record()
    run.rename(tmp_path / "moved")
    assert open_line(tmp_path / "moved").settings.prompts.file == str(tmp_path / "moved" / "p.txt")
