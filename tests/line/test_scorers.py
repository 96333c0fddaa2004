"""Rewards at the door: what belongs into a row's key, and weights that are not loaded."""

import json
import sys

import pytest
from PIL import Image

from rpo_cli import open_line
from rpo_cli.config import PairSettings
from rpo_cli.errors import RpoError, SettingsError, UsageError
from rpo_cli.line.dataset.build import _settings_in_force
from rpo_cli.line.preflight import preflight
from rpo_cli.line.work.critics import built_reward, reward_identity, reward_models, reward_options
from rpo_cli.protocols import Weights
from rpo_cli.recipes.rewards import SCORERS


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "instruction.txt").write_text("{text_prompt} <|Reward|>")
    return folder


@pytest.mark.parametrize("name", [name for name, found in SCORERS.items() if found.version])
def test_version_and_preprocessing_of_a_scorer_are_in_its_rows(name, tmp_path, model):
    said = json.loads(reward_identity(open_line(tmp_path / "run", {}), name, str(model))[1])

    assert (said["scorer"], said["preprocessing"]) == (SCORERS[name].version, SCORERS[name].preprocessing)


def test_the_key_of_older_rewards_stays_what_it_was(tmp_path, model):
    found, said = reward_identity(open_line(tmp_path / "run", {}), "clip", str(model))

    assert json.loads(said) == {"reward": "clip", "model": found.revision, "dtype": "float32"}


@pytest.mark.parametrize("name", [name for name, found in SCORERS.items() if found.pickled])
@pytest.mark.parametrize("kind", ["file", "folder", "hub id"])
def test_a_published_pickle_is_refused_with_its_conversion(name, kind, tmp_path):
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "weights.pt"
    file.write_bytes(b"\x80")
    ref = {"file": str(file), "folder": str(file.parent), "hub id": SCORERS[name].pickled[0]}[kind]

    with pytest.raises(UsageError, match="pickle") as caught:
        reward_identity(open_line(tmp_path / "run", {}), name, ref)
    published = SCORERS[name].file if kind == "hub id" else file
    assert f"rpo convert {published} " in caught.value.hint


@pytest.mark.parametrize("ref", ["MizzenAI/HPSv3", "folder"])
def test_weights_alone_and_a_folder_without_its_instruction_are_told_how_to_become_one(
    ref, tmp_path, model
):
    (model / "instruction.txt").unlink()
    given = str(model) if ref == "folder" else ref
    why = "lacks instruction.txt" if ref == "folder" else "holds weights alone"
    with pytest.raises(UsageError, match=why) as caught:
        reward_identity(open_line(tmp_path / "run", {}), "hpsv3", given)
    assert "INSTRUCTION and prompt_with_special_token" in caught.value.hint


def test_which_python_runs_a_reward_is_said_by_the_user_and_changes_no_key(tmp_path, model):
    rewards = {"score.rewards": (f"hpsv3={model}",)}
    named = open_line(tmp_path / "run", {**rewards, "score.python": sys.executable})
    assert reward_options(named, "hpsv3") == {"python": sys.executable}
    assert reward_identity(named, "hpsv3", str(model)) == reward_identity(
        open_line(tmp_path / "other", rewards), "hpsv3", str(model)
    )
    wrong = open_line(tmp_path / "run", {**rewards, "score.python": "/no/python"})
    with pytest.raises(UsageError, match=r"score\.python: /no/python: no such program"):
        preflight(wrong, ["build-pairs"])
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "rpo.toml").write_text(f'[score]\npython = "{sys.executable}"\n')
    with pytest.raises(SettingsError, match="whom to trust"):
        open_line(tmp_path / "third")


def test_settings_that_came_later_change_no_build_that_does_not_use_them():
    """The fingerprint of a dataset is over these; with the defaults it is that of earlier versions."""
    later = {"calibration": "win-rate", "selection": "pareto", "reward_weights": ("r=2",)}
    plain = _settings_in_force(PairSettings(), {})

    assert not later.keys() & plain.keys()
    for name, value in later.items():
        assert _settings_in_force(PairSettings(**{name: value}), {}).keys() - plain.keys() == {name}


# --- functions of the user's own -----------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of the user's own, and a run that scores with it."""
    (tmp_path / "code").mkdir()
    file = tmp_path / "code" / "my_rewards_of_test.py"
    file.write_text(
        "def longer(prompts, pictures):\n    return [len(p) + c.width for p, c in zip(prompts, pictures)]\n"
        "def few(prompts, pictures):\n    return [1.0]\n"
        "def words(prompts, pictures):\n    return prompts\n"
    )
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.delitem(sys.modules, file.stem, raising=False)
    return file


FUNCTION = {"score.functions": ("mine=my_rewards_of_test:longer",)}


def test_a_function_scores_and_its_files_content_is_its_identity(tmp_path, mine):
    line = open_line(tmp_path / "run", FUNCTION)
    found = reward_models(line)[-1]
    first, said = reward_identity(line, *found)
    backend = built_reward(found[0], Weights(found[1]))
    backend.setup()
    mine.write_text(mine.read_text() + "# another version\n")
    second, other = reward_identity(open_line(tmp_path / "run2", FUNCTION), *found)

    assert backend.score(["abc", ""], [Image.new("L", (8, 8)), Image.new("RGB", (16, 8))]) == [11.0, 16.0]
    assert first.ref == "my_rewards_of_test:longer"
    assert first.revision != second.revision
    assert said != other


def test_a_function_that_paints_over_its_pictures_changes_no_other_rewards(mine):
    mine.write_text(
        "def paint(p, c):\n    [x.putpixel((0, 0), (255, 0, 0)) for x in c]\n    return [0.0] * len(c)\n"
    )
    backend = built_reward("mine", Weights("my_rewards_of_test:paint"))
    backend.setup()
    given = Image.new("RGB", (8, 8), "blue")

    backend.score(["a blue square"], [given])

    assert given.getpixel((0, 0)) == (0, 0, 255)


def test_a_function_that_is_not_in_its_module_is_an_error_of_two_lines(mine):
    with pytest.raises(RpoError, match="cannot be imported"):
        built_reward("mine", Weights("my_rewards_of_test:none")).setup()


@pytest.mark.parametrize(("name", "told"), [("few", "of shape"), ("words", "no numbers")])
def test_a_function_that_gives_no_scores_is_an_error_of_two_lines(mine, name, told):
    backend = built_reward("mine", Weights(f"my_rewards_of_test:{name}"))
    backend.setup()
    with pytest.raises(RpoError, match=told):
        backend.score(["a", "b"], [Image.new("RGB", (8, 8))] * 2)


RAISING = {
    "value": ("raise ValueError('too dark\\nand more')", "raised ValueError: too dark$"),
    "key": ("return {}[0]", "raised KeyError: 0$"),
    "bare": ("assert False", "raised AssertionError"),
    "number": ("return [1 / 0]", "raised ZeroDivisionError: "),
    "exit": ("raise SystemExit(3)", "raised SystemExit: 3$"),
    "texts": ("return ['0.5']", "gave list, no numbers"),
    "array of texts": ("import numpy; return numpy.array(['0.5'])", "gave ndarray, no numbers"),
    "objects": ("import numpy; return numpy.array(['1'], dtype=object)", "gave ndarray, no numbers"),
    "beyond numbers": ("return [10**400]", "gave list, no numbers"),
}


@pytest.mark.parametrize("kind", RAISING)
def test_whatever_a_function_raises_is_told_in_two_lines(mine, kind):
    body, told = RAISING[kind]
    mine.write_text(f"def bad(prompts, pictures):\n    {body}\n")
    backend = built_reward("mine", Weights("my_rewards_of_test:bad"))
    backend.setup()
    with pytest.raises(RpoError, match=told) as caught:
        backend.score(["a"], [Image.new("RGB", (8, 8))])
    assert caught.value.message.startswith("score.functions: my_rewards_of_test:bad ")


def test_a_function_without_memory_is_asked_again_with_fewer_rows(mine):
    mine.write_text("def bad(prompts, pictures):\n    raise MemoryError\n")
    backend = built_reward("mine", Weights("my_rewards_of_test:bad"))
    backend.setup()
    with pytest.raises(MemoryError):
        backend.score(["a"], [Image.new("RGB", (8, 8))])


@pytest.mark.parametrize("body", ["def bad(:", "raise OSError('no disk')", "1 / 0"])
def test_a_module_that_cannot_be_run_is_told_in_two_lines(mine, body):
    mine.write_text(f"{body}\n")
    with pytest.raises(RpoError, match=r"cannot be imported: (SyntaxError|OSError|ZeroDivisionError)"):
        built_reward("mine", Weights("my_rewards_of_test:bad")).setup()


def test_a_run_directory_cannot_name_a_function(tmp_path, mine):
    run = tmp_path / "run"
    run.mkdir()
    (run / "rpo.toml").write_text('[score]\nfunctions = ["mine=my_rewards_of_test:longer"]\n')

    with pytest.raises(SettingsError) as caught:
        open_line(run, {})
    assert "score.functions: says whom to trust" in str(caught.value.problems)
    assert "my_rewards_of_test" not in sys.modules


def test_a_function_that_was_named_once_is_not_kept_for_the_next_command(tmp_path, mine):
    line = open_line(tmp_path / "run", FUNCTION)
    line.record()

    assert reward_models(open_line(tmp_path / "run", {})) != reward_models(line)
    assert dict(reward_models(open_line(tmp_path / "run", {}))).keys().isdisjoint({"mine"})


def test_a_function_may_not_take_the_name_of_a_reward(tmp_path):
    with pytest.raises(SettingsError) as caught:
        open_line(tmp_path / "run", {"score.functions": ("clip=os:getcwd",)})
    assert "'clip' is the name of a reward" in str(caught.value.problems)


def test_a_module_that_is_not_there_is_told_at_the_door(tmp_path):
    line = open_line(tmp_path / "run", {"score.functions": ("mine=no_such_module_here:score",)})
    with pytest.raises(UsageError, match="no module 'no_such_module_here'"):
        reward_identity(line, *reward_models(line)[-1])
