"""Which models an evaluation names, and what is refused before anything is made."""

import pytest

from rpo_cli.errors import UsageError
from rpo_cli.line.evaluation.models import contenders, refuse_other_bases


def named(stand, *asked):
    models, settings = contenders(stand.line(), asked)
    return [model.label for model in models], [(setting.label, setting.members) for setting in settings]


def test_without_a_name_every_finished_training_is_compared(stand):
    stand.train("b"), stand.train("a"), stand.train("c", finished=False)

    assert named(stand) == (["a", "b"], [("a", ("a",)), ("b", ("b",))])


def test_several_training_seeds_make_one_setting(stand):
    stand.train("s0"), stand.train("s1")

    assert named(stand, "dpo=s0,s1") == (["s0", "s1"], [("dpo", ("s0", "s1"))])


def test_one_model_may_stand_alone_and_in_a_setting(stand):
    stand.train("s0"), stand.train("s1")

    assert named(stand, "s0", "dpo=s0,s1") == (["s0", "s1"], [("s0", ("s0",)), ("dpo", ("s0", "s1"))])


def test_a_folder_is_known_by_what_it_holds(stand, tmp_path):
    for name, file in (
        ("lora", "pytorch_lora_weights.safetensors"),
        ("unet", "config.json"),
        ("pipe", "model_index.json"),
    ):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / file).write_text("{}")
    models, _ = contenders(
        stand.line(), [str(tmp_path / "models" / name) for name in ("lora", "unet", "pipe")]
    )

    # a folder called unet is a part of a model, which lends it its name
    assert [(model.label, *model.options) for model in models] == [
        ("lora", "generate.lora"),
        ("models", "generate.denoiser"),
        ("pipe", "generate.generator"),
    ]


def test_a_fully_tuned_training_generates_with_its_denoiser(stand):
    folder = stand.train("full")
    (folder / "adapter").rename(folder / "unet")

    (model,), _ = contenders(stand.line(), ["full"])

    assert model.options == {"generate.denoiser": str(folder / "unet")}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["nowhere"], "no such training"),
        (["c"], "not finished"),
        (["a,b"], "need a label"),
        (["base=a"], "base model's own label"),
        (["x y=a"], "no label"),
        (["a", "b", "a=b"], "two different models"),
        (["a", "a"], "two different models"),
        (["dpo="], "names nothing"),
        (["\x1b[31m=a"], "no label"),
        (["results.json=a"], "files of an evaluation"),
    ],
)
def test_what_cannot_be_meant_is_refused(stand, asked, said):
    stand.train("a"), stand.train("b"), stand.train("c", finished=False)
    with pytest.raises(UsageError, match=said):
        contenders(stand.line(), asked)


def test_nothing_trained_yet_is_said(stand):
    with pytest.raises(UsageError, match="no finished training"):
        contenders(stand.line(), [])


def test_an_adapter_of_another_model_is_refused(stand):
    stand.train("other", on="f" * 64)
    models, _ = contenders(stand.line(), ["other"])
    with pytest.raises(UsageError, match="other"):
        refuse_other_bases(models, "0" * 64)
    refuse_other_bases(models, "f" * 64)
