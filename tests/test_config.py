"""The settings: limits, and nothing that a section does not know."""

import pytest
from pydantic import ValidationError

from rpo_cli import registry
from rpo_cli.config import Settings
from rpo_cli.settings_checks import AUTO, NAMED, setting_names

WRONG = [
    ("run", {"seed": -1}),
    ("run", {"seed": 2**31}),
    ("run", {"device": "tpu"}),
    ("generate", {"steps": 0}),
    ("generate", {"steps": 2.5}),
    ("generate", {"guidance": float("nan")}),
    ("generate", {"guidance": float("inf")}),
    ("generate", {"width": 65}),
    ("generate", {"typo": 1}),
    ("critique", {"template": "../../etc/passwd"}),
    ("edit", {"guidance": []}),
    ("edit", {"image_guidance": [2.0, 0.5]}),
    ("edit", {"mode": "joint"}),
    ("score", {"rewards": ["clip"]}),
    ("score", {"rewards": ["clip="]}),
    ("score", {"rewards": ["clip=a", "clip=b"]}),
    ("pairs", {"min_agreement": 1.1}),
    ("pairs", {"val_fraction": 1.0}),
    ("train", {"beta": 0.0}),
    ("train", {"name": "../outside"}),
    ("train", {"name": ""}),
]


@pytest.mark.parametrize(("section", "values"), WRONG, ids=str)
def test_a_value_outside_its_limits_is_refused(section, values):
    with pytest.raises(ValidationError):
        Settings.model_validate({section: values})


def test_the_edges_of_the_limits_are_inside():
    settings = Settings.model_validate(
        {
            "run": {"seed": 2**31 - 1},
            "generate": {"steps": 1, "guidance": 0, "width": 8},
            "edit": {"image_guidance": [1.0]},
            "pairs": {"min_agreement": 1, "val_fraction": 0},
            "score": {"rewards": ["clip=a=b", "vqascore=c"]},
        }
    )

    assert settings.score.rewards == ("clip=a=b", "vqascore=c")


def test_settings_cannot_be_changed_once_checked():
    with pytest.raises(ValidationError):
        Settings().generate.steps = 3


def test_settings_survive_json():
    """run.json holds them; reading it back gives the same settings."""
    settings = Settings.model_validate({"edit": {"guidance": [3.0, 7.5]}, "score": {"rewards": ["a=b"]}})

    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_settings_that_hold_a_name_have_a_default_that_is_one():
    for setting, kind in NAMED.items():
        section, key = setting.split(".")
        default = getattr(getattr(Settings(), section), key)
        assert default in registry.names(kind) or default == AUTO
        assert setting in setting_names()
