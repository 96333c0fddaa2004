"""A preset says of each setting whose it is, is settings that the line accepts, and tells what it takes."""

import pytest

from rpo_cli import registry
from rpo_cli.presets import TABLES, WHOSE, explained
from rpo_cli.presets.facts import facts_of, models
from rpo_cli.presets.kinds import NEAREST, OURS
from rpo_cli.presets.paper import PAPER
from rpo_cli.presets.paper import settings as paper
from rpo_cli.recipes import RECIPES, critics, recipe
from rpo_cli.recipes.rewards import SCORERS
from rpo_cli.recipes.training import NUMBERS
from rpo_cli.recipes.weights import HUB_MODELS
from rpo_cli.resolve import resolve
from rpo_cli.settings_checks import setting_names
from rpo_cli.train.composition import composed

# preset → its family, its generator's recipe, its editor's
FAMILIES = {
    "sd15": ("sd1", "diffusers", "instruct-pix2pix"),
    "sdxl": ("sdxl", "sdxl", "flux2-klein"),
    "sd3.5": ("sd3", "sd3", "flux2-klein"),
}


def settings_of(name):
    found = dict(registry.load("presets", name)())
    found.pop("notes", None)
    return found


@pytest.mark.parametrize("name", TABLES)
def test_every_setting_of_a_table_has_its_origin_in_the_notes(name):
    found = resolve({}, preset=name)
    from_preset = {key for key, origin in found.origins.items() if origin == f"preset {name}"}
    assert from_preset == {item.name for item in TABLES[name]} <= set(setting_names())
    for item in TABLES[name]:
        assert item.whose
        assert any(f"{item.name} = " in note and note.split(":")[0] for note in found.notes)


@pytest.mark.parametrize("name", ["shapes", "gpu"])
def test_a_preset_without_a_table_says_whose_all_its_settings_are(name):
    assert {item.whose for item in explained(name, settings_of(name))} == {WHOSE[name]}


def test_what_is_ours_in_the_paper_is_told_apart_from_the_authors():
    found = resolve({}, preset="paper")
    ours = next(note for note in found.notes if note.startswith("Ours:"))
    assert all((f"{item.name} = " in ours) == (item.whose == OURS) for item in PAPER)


def test_the_papers_critic_is_one_that_loads_and_the_authors_stands_beside_it():
    row = next(item for item in PAPER if item.name == "critique.critic")
    assert (row.value, row.whose) == ("llava-hf/llava-onevision-qwen2-7b-ov-hf", NEAREST)
    assert "lmms-lab/llava-critic-7b" in row.why
    assert row.value in HUB_MODELS


def test_the_paper_trains_with_salesforces_loss_and_effective_rate():
    settings = resolve({}, preset="paper").settings.train
    assert settings.learning_rate == 1e-8 * settings.global_batch
    objective = composed(settings)
    assert (objective.link, objective.reference_mix, settings.beta) == ("logistic", 1, 5000)


def test_an_imported_pair_keeps_its_label_and_its_edits_are_relabelled():
    pairs = resolve({}, preset="paper").settings.pairs
    assert (pairs.strategy, pairs.labels, pairs.keep_reversed) == ("edits", "source", True)


def test_a_preset_is_made_anew_for_each_call():
    first, second = paper(), paper()
    first["train"]["beta"] = 1
    assert second["train"]["beta"] == 5000


@pytest.mark.parametrize("name", FAMILIES)
def test_a_familys_preset_is_whole_and_names_models_that_our_backends_serve(name):
    settings = resolve({}, preset=name).settings
    _, drawing, editing = FAMILIES[name]
    assert settings.generate.generator in {model.ref for model in recipe("generators", drawing).models}
    assert settings.edit.editor in {model.ref for model in recipe("editors", editing).models}
    assert settings.critique.critic == critics.QWEN3_VL_8B.ref
    names = [reward.partition("=")[0] for reward in settings.score.rewards]
    assert settings.pairs.select_by in names
    assert len(names) > 1  # the reward that chooses among attempts is not the only one that judges


@pytest.mark.parametrize("name", FAMILIES)
def test_a_number_that_a_recipe_has_too_is_that_of_the_recipe_or_names_another_source(name):
    settings, rows = resolve({}, preset=name).settings, {item.name: item for item in TABLES[name]}
    _, drawing, editing = FAMILIES[name]
    for section, how in (("generate", recipe("generators", drawing)), ("edit", recipe("editors", editing))):
        for key in ("steps", "guidance"):
            given = getattr(getattr(settings, section), key)
            if given is None:
                continue
            value = given[0] if isinstance(given, tuple) else given
            assert value == getattr(how, key) or "TensorStack" in rows[f"{section}.{key}"].whose
            assert how.accepts(key)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_trains_by_the_published_numbers_of_its_lora(name):
    settings = resolve({}, preset=name).settings.train
    published = NUMBERS[FAMILIES[name][0], "dpo", False]
    assert (settings.beta, settings.learning_rate) == (
        published.beta.value,
        published.learning_rate.value,
    )
    assert composed(settings).link == "logistic"
    assert settings.global_batch % settings.batch_size == 0


@pytest.mark.parametrize("name", FAMILIES)
def test_every_stage_of_a_family_fits_a_gpu_of_24_gb(name):
    facts = {fact.what: fact.value for fact in facts_of(name, settings_of(name))}
    memory = {what: value for what, value in facts.items() if what.startswith("memory: ")}
    assert len(memory) == 6
    assert all(value.endswith(" MB") or float(value.removesuffix(" GB")) < 20 for value in memory.values())


@pytest.mark.parametrize("name", [name for name in registry.presets if name != "none"])
def test_a_preset_tells_licence_download_memory_disk_and_hours_each_with_an_origin(name):
    settings = settings_of(name)
    facts = facts_of(name, settings)
    said = [fact.what for fact in facts]
    assert all(fact.value and fact.origin for fact in facts)
    for ref in models(settings).values():
        told = ref if "/models/" not in ref else ref.rpartition("/")[2]
        assert {f"licence of {told}", f"download of {told}"} <= set(said)
    assert [f"memory: {role}" for role in models(settings)] == [
        what.strip() for what in said if what.startswith("memory: ") and what != "memory: train"
    ]
    assert {"memory: train", "disk for 1,000 prompts", "hours"} <= set(said)
    assert dict(zip(said, facts, strict=True))["hours"].value == "not measured"


def test_a_preset_of_unknown_models_says_not_known():
    theirs = {"generate": {"generator": "somebody/model"}}
    facts = {fact.what: fact.value for fact in facts_of("theirs", theirs)}
    assert facts["licence of somebody/model"] == "not known"
    assert facts["download of somebody/model"] == facts["memory: generator"] == "not known"
    assert facts["memory: train"] == "not measured"


def test_a_preset_without_models_has_no_facts():
    assert facts_of("none", {}) == []


def test_licences_are_those_of_the_recipes():
    known = [model for table in RECIPES.values() for how in table.values() for model in how.models]
    known += [model for how in SCORERS.values() for model in how.models]
    known += [getattr(critics, name) for name in vars(critics) if name.isupper()]
    licences = {model.ref: model.license for model in known}
    for ref, weights in HUB_MODELS.items():
        assert licences.get(ref, weights.license).startswith(weights.license)
