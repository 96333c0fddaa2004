"""Numbers by family and method: each with a source, and what nobody has published is marked so."""

import pytest

from rpo_cli import registry
from rpo_cli.recipes.training import (
    AS_DPO,
    LIKE_DPO,
    NUMBERS,
    PIPELINES,
    PLAIN,
    family_of_pipeline,
    kin,
    numbers_of,
)
from rpo_cli.train.objectives.objective import SALESFORCE


def beta(family, method, **how):
    found = numbers_of(family, method, beta=registry.load("objectives", method).default_beta, **how).beta
    return found and (found.value, found.published)


def test_every_row_is_of_a_family_and_a_method_and_names_its_source():
    for (family, method, _), numbers in NUMBERS.items():
        assert family in registry.families
        assert method in registry.objectives
        for number in vars(numbers).values():
            assert number is None or (number.published and ("/" in number.source or " " in number.source))


def test_the_published_numbers_are_those_of_their_sources():
    """As read in the repositories that the sources name, in Salesforce's convention."""
    assert beta("sd1", "dpo") == beta("sdxl", "dpo") == beta("sd1", "dpo", full=True) == (5000.0, True)
    assert beta("sd3", "dpo") == (100.0, True)
    assert (beta("sd1", "kto"), beta("sd1", "npo"), beta("sdxl", "npo")) == (
        *((2000.0, True), (1000.0, True), (2000.0, True)),
    )
    assert (beta("sd1", "smpo"), beta("sdxl", "smpo")) == ((2000.0, True), (5000.0, True))
    lora, full = numbers_of("sd1", "dpo"), numbers_of("sd1", "dpo", full=True)
    assert (lora.learning_rate.value, full.learning_rate.value) == (1e-5, 2.048e-5)
    assert (lora.warmup.value, full.warmup.value) == (0.0, 0.25)
    assert (lora.caption_dropout.value, full.caption_dropout.value) == (0.0, 0.2)
    assert lora.flip.value
    assert full.flip.value
    assert not numbers_of("sd3", "dpo").flip.value


def test_what_nobody_has_published_goes_as_dpo_does_and_is_marked():
    assert beta("flux", "dpo") == (100.0, False)
    assert beta("sd1", "ipo") == (5000.0, False)
    assert beta("sd3", "rank-dpo") == (100.0, False)
    assert beta("sd3", "kto") == (pytest.approx(40.0), False)
    assert numbers_of("sdxl", "kto").learning_rate.value == 1e-5
    assert not numbers_of("sdxl", "kto").learning_rate.published
    assert beta("sd1", "ppod") is None  # its unit is another: the method's own number stands
    assert numbers_of("", "dpo", beta=5000.0).learning_rate == PLAIN.learning_rate


def test_methods_that_take_dpos_beta_are_those_with_its_unit_and_its_default():
    """And none of them publishes one of its own."""
    dpo = registry.load("objectives", "dpo").default_beta
    borrowed = {
        name
        for name in registry.objectives
        if name != "dpo"
        and (found := registry.load("objectives", name)).beta_unit == SALESFORCE
        and found.default_beta == dpo
    }
    assert borrowed == AS_DPO
    assert {method for _, method, _ in NUMBERS} & AS_DPO == set()
    assert kin("ipo") == kin("dpo") == "dpo"
    assert kin("kto") == "kto"
    units = {name: registry.load("objectives", name).beta_unit for name in LIKE_DPO}
    assert set(units.values()) == {SALESFORCE}


def test_a_pipeline_class_says_the_family_that_trains_it():
    for name in ("StableDiffusionXLPipeline", "StableDiffusionPipeline", "StableDiffusion3Pipeline"):
        assert family_of_pipeline(name) in registry.families
    assert family_of_pipeline("StableDiffusionXLPipeline") == "sdxl"
    assert family_of_pipeline("StableDiffusion3Pipeline") == "sd3"
    assert family_of_pipeline("FluxPipeline") == "flux"
    assert family_of_pipeline("AnotherPipeline") == ""
    assert set(PIPELINES.values()) == set(registry.families)
