"""Which weights of a published folder are read, and which parts may be absent."""

import json

import pytest

from rpo_cli.model_files import of_names, part_loaded, pipeline_loaded, published

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": [None, None],
    "requires_safety_checker": True,
}
PLAIN = [
    *("unet/config.json", "unet/diffusion_pytorch_model.safetensors", "vae/config.json"),
    *("vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"),
    *("scheduler/scheduler_config.json", "safety_checker/model.safetensors"),
    "feature_extractor/preprocessor_config.json",
]


def renamed(names, kind, *folders):
    return [
        name.replace(".safetensors", f".{kind}.safetensors") if name.split("/")[0] in folders else name
        for name in names
    ]


def test_plain_weights_need_nothing():
    found = of_names(PLAIN, INDEX)

    assert (found.variants, found.remarks(), found.lacking) == ({}, [], ())


@pytest.mark.parametrize("kind", ["fp16", "bf16", "non_ema"])
def test_parts_with_weights_of_a_variant_only_are_loaded_from_it_and_said(kind):
    found = of_names(renamed(PLAIN, kind, "unet", "vae", "text_encoder", "safety_checker"), INDEX)

    assert found.variant == kind
    assert found.options("unet") == {"variant": kind}
    (said,) = found.remarks()
    assert kind in said


@pytest.mark.parametrize(
    "shards",
    [
        ["m.fp16-00001-of-00002.safetensors", "m.fp16-00002-of-00002.safetensors"],
        ["m-00001-of-00002.fp16.safetensors", "m-00002-of-00002.fp16.safetensors"],
    ],
)
def test_shards_of_a_variant_are_known_in_both_spellings(shards):
    names = [f"unet/diffusion_pytorch_{name.replace('m', 'model', 1)}" for name in shards]
    found = of_names([name for name in PLAIN if "unet/diff" not in name] + names, INDEX)

    assert found.variants == {"unet": "fp16"}
    assert (found.options("unet"), found.options("vae")) == ({"variant": "fp16"}, {})


def test_a_part_that_has_both_keeps_the_plain_one():
    both = PLAIN + renamed([name for name in PLAIN if "model.safe" in name], "fp16", "unet", "vae")

    assert of_names(both, INDEX).variants == {}
    mixed = [name for name in both if name != "vae/diffusion_pytorch_model.safetensors"]
    found = of_names(mixed, INDEX)
    assert (found.variants, found.both) == ({"vae": "fp16"}, ("unet",))
    assert found.options("unet") == {}


def test_optional_parts_may_be_absent_and_others_are_named():
    few = [
        name for name in PLAIN if name.split("/")[0] not in ("safety_checker", "feature_extractor", "vae")
    ]
    found = of_names(few, INDEX)

    assert found.unused == ("feature_extractor", "safety_checker")
    assert found.lacking == ("vae",)
    assert found.remarks() == [
        "its index names feature_extractor, safety_checker, not in the folder: loaded without"
    ]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["config.json", "model.fp16.safetensors"], {"variant": "fp16"}),
        (["config.json", "model.fp16.safetensors", "model.safetensors"], {}),
        (["config.json", "model.bf16-00001-of-00002.safetensors"], {"variant": "bf16"}),
        (["config.json", "model-00001-of-00002.safetensors"], {}),
        (["config.json", "diffusion_pytorch_model.fp16.safetensors"], {"variant": "fp16"}),
        (["config.json", "other.fp16.safetensors"], {}),
    ],
)
def test_a_model_without_parts_is_loaded_alike(names, told):
    assert of_names(names, {}).options("") == told


def test_a_folder_is_read_as_its_names(tmp_path):
    for name in renamed(PLAIN, "fp16", "unet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "model_index.json").write_text(json.dumps(INDEX))

    assert published(tmp_path).variants == {"unet": "fp16"}
    (tmp_path / "model_index.json").write_text("[]")
    assert published(tmp_path).variants == {}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that tells the files of one id, and its index; returns what sets them."""

    def call(names, index):
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        there = [*names, *(["model_index.json"] if index else [])]
        monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda self, ref, revision: there)
        monkeypatch.setattr(
            "huggingface_hub.hf_hub_download", lambda ref, name, revision: str(tmp_path / name)
        )

    return call


def wants(told):
    """A loader that finds no weights unless it is told so."""

    def load(*given):
        if given[-1] != told:
            raise OSError("no such file")
        return given

    return load


def test_a_hub_id_is_asked_for_its_files_only_where_it_does_not_load(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", None)  # asking would fail

    assert pipeline_loaded("org/name", None, wants({}), None) == ("org/name", {})
    assert part_loaded("org/name", None, wants({})) == ({},)
    hub(renamed(PLAIN, "fp16", "unet", "vae", "text_encoder", "safety_checker"), INDEX)
    told = {"variant": "fp16"}
    whole = {**told, "image_encoder": None}  # of which its index says that there is none
    assert pipeline_loaded("org/name", "main", wants(whole), None) == ("org/name", whole)
    assert part_loaded("org/name", "main", wants(told), "unet") == (told,)
    hub(["config.json", "model.bf16.safetensors"], {})
    assert part_loaded("org/name", None, wants({"variant": "bf16"})) == ({"variant": "bf16"},)


def test_parts_that_the_index_says_are_not_there_are_given_as_none(hub, tmp_path):
    empty = {"text_encoder_3": [None, None], "tokenizer_3": [None, None], "image_encoder": [None, None]}
    hub([], empty)
    told = dict.fromkeys(empty)

    assert pipeline_loaded("org/name", None, wants(told), None) == ("org/name", told)
    assert pipeline_loaded(str(tmp_path), None, wants(told), None) == (str(tmp_path), told)


def test_what_no_variant_mends_keeps_its_own_error(hub):
    hub(PLAIN, INDEX)
    with pytest.raises(OSError, match="no such file"):
        pipeline_loaded("org/name", None, wants({"variant": "x"}), None)
    with pytest.raises(OSError, match="no such file"):
        part_loaded("org/name", None, wants({"variant": "x"}), "unet")
