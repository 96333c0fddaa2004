"""What `rpo settings` says: values as the next command would have them, and where they are from."""

import pytest

from rpo_cli import open_line
from rpo_cli.errors import UsageError
from rpo_cli.line.settings import settings_of
from rpo_cli.settings_checks import setting_names


def said(line, name):
    (found,) = settings_of(line, name)
    return found.value, found.origin


def test_every_setting_is_told_once_with_to_whom_it_belongs(tmp_path):
    found = settings_of(open_line(tmp_path, preset="shapes"))
    assert [item.name for item in found] == setting_names()
    whose = {item.name: item.belongs_to for item in found}
    assert (whose["generate.steps"], whose["train.beta"], whose["run.device"]) == (
        *("run", "training", "command"),
    )


def test_a_number_that_nobody_gave_is_the_models_or_the_methods(tmp_path):
    line = open_line(tmp_path, {"generate.steps": "default", "train.method": "kto"}, preset="shapes")
    value, origin = said(line, "generate.steps")
    assert (value, origin.startswith("model (")) == (50, True)
    assert said(line, "train.beta")[0] == 2000
    assert said(line, "train.group_size") == (8, "method (kto)")


def test_the_rate_of_a_method_that_samples_is_its_own_whatever_the_preset_has_for_pairs(tmp_path):
    line = open_line(tmp_path, {"train.method": "dpok", "train.rounds": 1}, preset="shapes")
    assert said(line, "train.learning_rate") == (1e-5, "method (dpok)")


def test_a_presets_rate_for_a_lora_is_none_for_all_weights(tmp_path):
    line = open_line(tmp_path, {"train.full": True}, preset="shapes")
    value, origin = said(line, "train.learning_rate")
    assert (value, "DiffusionDPO launchers/sd15.sh" in origin) == (2.048e-5, True)


def test_a_setting_that_is_none_comes_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match=r"did you mean 'train\.beta'"):
        settings_of(open_line(tmp_path), "train.betaa")


def test_a_section_is_told_alone(tmp_path):
    assert {item.name.partition(".")[0] for item in settings_of(open_line(tmp_path), "pairs")} == {"pairs"}
