"""The preset `paper` says of each setting whose it is, and is settings that the line accepts."""

from rpo_cli.presets import OURS, PAPER, SD15, paper
from rpo_cli.recipes import recipe
from rpo_cli.resolve import resolve
from rpo_cli.settings_checks import setting_names
from rpo_cli.train.compose import composed


def test_every_setting_of_the_paper_is_marked_as_the_authors_or_ours():
    found = resolve({}, preset="paper")
    from_preset = {name for name, origin in found.origins.items() if origin == "preset paper"}
    assert from_preset == {item.name for item in PAPER} <= set(setting_names())
    notes = " ".join(found.notes)
    for item in PAPER:
        assert f"{item.name} = " in notes
    ours = next(note for note in found.notes if note.startswith("Ours:"))
    assert all((f"{item.name} = " in ours) == (item.whose == OURS) for item in PAPER)


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


def test_every_setting_of_sd15_has_a_source_in_its_notes():
    found = resolve({}, preset="sd15")
    from_preset = {name for name, origin in found.origins.items() if origin == "preset sd15"}
    assert from_preset == {item.name for item in SD15} <= set(setting_names())
    for item in SD15:
        assert any(f"{item.name} = " in note and note.split(":")[0] for note in found.notes)


def test_sd15_says_the_numbers_that_its_models_recipes_say():
    """A preset that repeats a recipe's number must not drift from it; what differs is marked as ours."""
    settings = resolve({}, preset="sd15").settings
    drawn, edited = recipe("generators", "diffusers"), recipe("editors", "instruct-pix2pix")
    assert settings.generate.generator in {model.ref for model in drawn.models}
    assert settings.edit.editor in {model.ref for model in edited.models}
    assert (settings.generate.steps, settings.generate.guidance) == (drawn.steps, drawn.guidance)
    assert settings.edit.guidance == (edited.guidance,)
    assert settings.edit.image_guidance == (edited.image_guidance,)
    assert settings.edit.steps == edited.steps
    names = [reward.partition("=")[0] for reward in settings.score.rewards]
    assert settings.pairs.select_by in names
    assert len(names) > 1  # the reward that chooses among attempts is not the only one that judges


def test_sd15_trains_with_diffusion_dpo():
    settings = resolve({}, preset="sd15").settings.train
    assert composed(settings).link == "logistic"
    assert settings.global_batch % settings.batch_size == 0
