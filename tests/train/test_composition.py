"""Settings → objective: what may be changed, and what is refused at the door, all at once."""

import pytest

from rpo_cli import registry
from rpo_cli.config import TrainSettings
from rpo_cli.errors import SettingsError
from rpo_cli.train.composition import PARTS, composed, settled


def problems(**given) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        composed(TrainSettings(**given))
    assert "rpo list objectives" in caught.value.hint
    return list(caught.value.problems)


@pytest.mark.parametrize("name", registry.objectives)
def test_without_settings_a_method_is_its_preset(name):
    assert composed(TrainSettings(method=name)) == registry.load("objectives", name)


@pytest.mark.parametrize("name", registry.objectives)
def test_every_part_that_is_not_open_is_refused(name):
    """Each setting with a value that the preset does not have."""
    objective = registry.load("objectives", name)
    other = {
        "link": "exponential",
        "reference_mix": 0.6,
        "reference_every": 5,
        "reference_decay": 0.5,
        "ratio_base": "old",
        "margin": 3.0,
        "scale": 7.0,
        "sft_weight": 0.7,
        "label_smoothing": 0.3,
        "soft_labels": "agreement",
        "pair_weight": "agreement",
        "timestep_weight": "min-snr",
        "timestep_discount": 0.7,
        "min_timestep": 3,
        "max_timestep": 700,
        "group_size": 2,
        "list_size": 6,
        "temperature": 0.3,
        "divergence": "forward-kl",
        "divergence_alpha": 0.7,
        "clip": 0.3,
        "desirable_weight": 3.0,
        "undesirable_weight": 3.0,
        "dro_temperature": 3.0,
        "dro_trim": 0.3,
    }
    assert set(other) == set(PARTS)
    moving = {"reference_every": 5, **({"ratio_base": "old"} if "ratio_base" in objective.open else {})}
    with_it = dict.fromkeys(("reference_every", "reference_decay", "ratio_base"), moving)
    for part, value in other.items():
        company = with_it.get(part, {}) if part in objective.open else {}
        settings = TrainSettings(method=name, **{**company, part: value})
        if part in objective.open:
            assert getattr(composed(settings), part) == value
        else:
            with pytest.raises(SettingsError, match=f"train.{part}: .* contradicts {name}"):
                composed(settings)


def test_all_contradictions_are_told_at_once():
    found = problems(method="mapo", reference_mix=0.5, link="ipo", clip=0.1)
    assert len(found) == 3
    assert any("reference_mix: 0.5 contradicts mapo" in line for line in found)


def test_a_value_that_the_method_has_anyway_contradicts_nothing():
    assert composed(TrainSettings(method="dpo", link="logistic", margin=0.0)).link == "logistic"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"method": "kto", "group_size": 5}, "group_size: 5 does not divide the global batch of 16"),
        ({"method": "kto", "global_batch": 4}, "group_size: 8 does not divide the global batch of 4"),
        ({"min_timestep": 500, "max_timestep": 400}, "max_timestep: 400 is below the lowest, 500"),
        ({"method": "rainbow", "reference_mix": 1.0, "margin": 2.0}, "margin: counts (1 - reference_mix)"),
        ({"method": "ppod", "beta": 1.0, "beta_from": "summed"}, "beta_from: the beta of ppod is another"),
        ({"method": "sft", "beta": 1.0, "beta_from": "summed"}, "beta_from: the beta of sft is another"),
        ({"reference_decay": 0.5}, "reference_decay: of a reference that moves"),
        ({"method": "ppod", "ratio_base": "old"}, "ratio_base: old is the policy of the last move"),
        (
            {"method": "ppod", "reference_every": 9},
            "reference_every: the ratio of train.ratio_base = 'ref'",
        ),
        ({"beta_from": "summed"}, "beta_from: says whose beta is given"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given, told):
    (problem,) = problems(**given)
    assert told in problem


def test_no_reference_runs_at_a_mix_of_zero():
    assert not composed(TrainSettings(method="rainbow", reference_mix=0.0)).needs_reference
    assert composed(TrainSettings(method="rainbow")).needs_reference


def test_columns_follow_the_parts():
    assert composed(TrainSettings(method="rainbow", pair_weight="none")).columns == ()
    both = composed(TrainSettings(pair_weight="dispersion", soft_labels="margin"))
    assert both.columns == ("dispersion", "margin")


def test_the_record_holds_the_methods_numbers_and_nothing_that_is_no_part_of_it():
    settings, objective = settled(TrainSettings(method="kto"))
    assert (settings.beta, settings.group_size, settings.link) == (2000.0, 8, None)
    assert settings.list_size is None
    again, same = settled(settings)
    assert (again, same) == (settings, objective)


def test_a_beta_that_the_method_does_not_have_leaves_no_trace():
    assert settled(TrainSettings(method="sft", beta=200.0))[0].beta is None
    assert settled(TrainSettings(method="dpo", beta=200.0))[0].beta == 200.0
    assert settled(TrainSettings(method="dpo"))[0].beta == 5000.0
