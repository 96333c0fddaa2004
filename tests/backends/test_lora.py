"""A LoRA of every naming arrives in the layers it is for, number by number; what does not is said."""

import copy
import json

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

from rpo_cli.backends.loading import load_pipeline
from rpo_cli.backends.lora import NAME, load_adapter, modules_of
from rpo_cli.backends.lora_names import layers_of, match, prefixes
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.protocols import Weights
from rpo_cli.shapes.manifest import MODELS
from rpo_cli.train.export.lora_files import original_name
from tests.closeness import FORWARD, assert_close

SHAPES = str(MODELS / "text-to-image")
RANK = 4


def opened(model):
    return load_pipeline(Weights(model))


def factors(pipe, component, ends, seed=0):
    """Layer → (A, B) of every layer whose name ends so."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in modules_of(pipe)[component].items():
        if name.endswith(ends):
            down = torch.randn(RANK, *shape[1:], generator=generator)
            up = torch.randn(shape[0], RANK, *[1] * (len(shape) - 2), generator=generator)
            found[name] = down, up
    assert found
    return found


def dotted(found, prefix, parts=("lora_A", "lora_B")):
    return {
        f"{prefix}{name}.{part}.weight": value
        for name, pair in found.items()
        for part, value in zip(parts, pair, strict=True)
    }


def kohya(found, prefix="lora_unet_", alpha=None, named=lambda name: name):
    state = {}
    for name, (down, up) in found.items():
        base = prefix + named(name).replace(".", "_")
        state |= {f"{base}.lora_down.weight": down, f"{base}.lora_up.weight": up}
        if alpha is not None:
            state[f"{base}.alpha"] = torch.tensor(float(alpha))
    return state


def saved(state, file, metadata=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.clone().contiguous() for name, value in state.items()}, file, metadata)
    return file


def changes(part):
    """Layer → what the loaded LoRA adds to its weight."""
    return {
        name: layer.get_delta_weight(NAME)
        for name, layer in part.named_modules()
        if NAME in getattr(layer, "lora_A", ())
    }


def assert_adds(part, found, scale=1.0):
    """Exactly the layers of `found` carry scale · B A."""
    added = changes(part)
    assert added.keys() == found.keys()
    for name, (down, up) in found.items():
        assert torch.equal(added[name].flatten(1), scale * (up.flatten(1) @ down.flatten(1))), name


@pytest.fixture(scope="module")
def embedded():
    return opened(SHAPES)


@pytest.fixture
def pipe(embedded):
    """A copy, which takes a quarter of the time that loading takes."""
    return copy.deepcopy(embedded)


@pytest.fixture(scope="module")
def attention(embedded):
    return factors(embedded, "unet", ("to_q", "to_v", "to_out.0"))


PARTS = [
    *(("lora_A", "lora_B"), ("lora_down", "lora_up"), ("lora.down", "lora.up")),
    ("lora_A.default", "lora_B.default"),
]


@pytest.mark.parametrize(
    ("prefix", "parts"),
    [
        *((prefix, PARTS[0]) for prefix in ("unet.", "transformer.", "", "model.diffusion_model.")),
        *((prefix, PARTS[0]) for prefix in ("base_model.model.unet.", "diffusion_model.unet.")),
        *((prefix, PARTS[0]) for prefix in ("module.unet.", "unet._orig_mod.")),
        *(("diffusion_model.", parts) for parts in PARTS),
        *(("base_model.model.", parts) for parts in PARTS),
    ],
)
def test_names_with_dots_are_read_behind_any_prefix(pipe, attention, tmp_path, prefix, parts):
    file = saved(dotted(attention, prefix, parts), tmp_path / "any name.v2.safetensors")

    assert load_adapter(pipe, str(file), SHAPES) == []
    assert_adds(pipe.unet, attention)


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (1, 0.25), (2, 0.5), (4, 1.0), (8, 2.0)])
@pytest.mark.parametrize("prefix", ["lora_unet_", "lora_transformer_", "lycoris_"])
def test_kohyas_alpha_over_the_rank_scales_what_is_added(pipe, attention, tmp_path, prefix, alpha, scale):
    file = saved(kohya(attention, prefix, alpha), tmp_path / "style.safetensors")

    assert load_adapter(pipe, str(file), SHAPES) == []
    assert_adds(pipe.unet, attention, scale)


def test_layers_may_have_ranks_of_their_own(pipe, attention, tmp_path):
    first = next(iter(attention))
    mixed = {**attention, first: (attention[first][0][:1], attention[first][1][:, :1])}

    load_adapter(pipe, str(saved(dotted(mixed, "unet."), tmp_path / "a.safetensors")), SHAPES)
    assert_adds(pipe.unet, mixed)


def test_the_names_of_old_attention_processors_are_read(pipe, tmp_path):
    found = factors(pipe, "unet", ("attn1.to_q", "attn2.to_out.0"))
    state = {}
    for name, (down, up) in found.items():
        layer, _, last = name.removesuffix(".0").rpartition(".")
        state |= {
            f"unet.{layer}.processor.{last}_lora.down.weight": down,
            f"unet.{layer}.processor.{last}_lora.up.weight": up,
        }

    assert load_adapter(pipe, str(saved(state, tmp_path / "old.safetensors")), SHAPES) == []
    assert_adds(pipe.unet, found)


def test_convolutions_and_projections_are_read_too(pipe, tmp_path):
    found = factors(pipe, "unet", ("conv1", "proj_in", "time_embedding.linear_1"))

    assert (
        load_adapter(pipe, str(saved(kohya(found, alpha=4), tmp_path / "locon.safetensors")), SHAPES) == []
    )
    added = changes(pipe.unet)
    assert added.keys() == found.keys()
    for name, (down, up) in found.items():
        assert_close(added[name].flatten(1), up.flatten(1) @ down.flatten(1), FORWARD)


def test_a_folder_of_peft_is_scaled_as_its_configuration_says(pipe, attention, tmp_path):
    saved(dotted(attention, "base_model.model."), tmp_path / "adapter_model.safetensors")
    config = {"r": RANK, "lora_alpha": 6, "alpha_pattern": {"mid_block.*to_q": 2}, "use_rslora": False}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))

    load_adapter(pipe, str(tmp_path), SHAPES)
    for name, change in changes(pipe.unet).items():
        down, up = attention[name]
        scale = 0.5 if name.startswith("mid_block") and name.endswith("to_q") else 1.5
        assert torch.equal(change, scale * (up @ down)), name


def test_what_diffusers_saves_of_an_adapter_is_read_with_its_alpha_and_rank_stabilised(pipe, tmp_path):
    pipe.unet.add_adapter(LoraConfig(r=RANK, lora_alpha=3, use_rslora=True, target_modules=["to_q"]))
    for name, parameter in pipe.unet.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter)
    config = pipe.unet.peft_config["default"].to_dict()
    config["target_modules"] = list(config["target_modules"])
    pipe.save_lora_weights(
        tmp_path, get_peft_model_state_dict(pipe.unet), unet_lora_adapter_metadata=config
    )
    wanted = {
        name: layer.get_delta_weight("default")
        for name, layer in pipe.unet.named_modules()
        if "default" in getattr(layer, "lora_A", ())
    }

    fresh = opened(SHAPES)
    load_adapter(fresh, str(tmp_path), SHAPES)
    found = changes(fresh.unet)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)  # 3 / √4 = 1.5 times B A


def test_text_encoders_are_read_in_diffusers_and_kohyas_names(tiny, tmp_path):
    """SDXL, whose denoiser kohya names as the original code does, and whose text encoders are two."""
    model = tiny("generators", "sdxl")
    pipe = opened(model)
    denoiser = factors(pipe, "unet", ("to_q", "to_out.0"))
    texts = {name: factors(pipe, name, ("q_proj", "fc1"), 1) for name in ("text_encoder", "text_encoder_2")}
    layers = pipe.unet.config.layers_per_block

    def plain(found):
        return {name.removeprefix("text_model."): pair for name, pair in found.items()}

    ours = dotted(denoiser, "unet.")
    theirs = kohya(denoiser, alpha=2, named=lambda name: original_name(name, layers))
    for place, (name, found) in enumerate(texts.items(), start=1):
        ours |= dotted(plain(found), f"{name}.text_model.")
        theirs |= kohya(plain(found), f"lora_te{place}_text_model_", alpha=2)
    comfy = dotted(
        {original_name(name, layers): pair for name, pair in denoiser.items()}, "diffusion_model."
    )
    for state, scale, parts in ((ours, 1.0, texts), (theirs, 0.5, texts), (comfy, 1.0, {})):
        fresh = opened(model)
        assert load_adapter(fresh, str(saved(state, tmp_path / "x.safetensors")), model) == []
        assert_adds(fresh.unet, denoiser, scale)
        for name, found in parts.items():
            assert_adds(getattr(fresh, name), found, scale)


@pytest.mark.parametrize("name", ["sd3", "flux"])
@pytest.mark.parametrize(
    "prefix", ["transformer.", "diffusion_model.", "", "lora_unet_", "lora_transformer_"]
)
def test_transformers_are_read_in_every_naming(tiny, tmp_path, name, prefix):
    model = tiny("generators", name)
    pipe = opened(model)
    found = factors(pipe, "transformer", ("to_q", "to_add_out", "add_k_proj"))
    state = kohya(found, prefix, alpha=2) if prefix.startswith("lora") else dotted(found, prefix)

    assert load_adapter(pipe, str(saved(state, tmp_path / "x.safetensors")), model) == []
    assert_adds(pipe.transformer, found, 0.5 if prefix.startswith("lora") else 1.0)


@pytest.mark.parametrize(
    ("prefix", "parts"),
    [
        ("lora_unet_", ("lora_down", "lora_up")),
        ("diffusion_model.", ("lora_A", "lora_B")),
        ("base_model.model.", ("lora_A", "lora_B")),
        ("", ("lora_down", "lora_up")),
    ],
)
def test_fluxs_own_layer_of_three_is_parted(tiny, tmp_path, prefix, parts):
    """The original code computes query, key and value in one layer; diffusers in three."""
    model = tiny("generators", "flux")
    pipe = opened(model)
    width = modules_of(pipe)["transformer"]["transformer_blocks.0.attn.to_q"][1]
    down, up = torch.randn(RANK, width), torch.randn(3 * width, RANK)
    name = "double_blocks.0.img_attn.qkv"
    base = prefix + (name.replace(".", "_") if prefix.endswith("_") else name)
    state = {f"{base}.{part}.weight": value for part, value in zip(parts, (down, up), strict=True)}
    state[f"{base}.alpha"] = torch.tensor(2.0)

    assert load_adapter(pipe, str(saved(state, tmp_path / "x.safetensors")), model) == []
    added = changes(pipe.transformer)
    assert sorted(added) == [f"transformer_blocks.0.attn.to_{part}" for part in "kqv"]
    for part, rows in zip("qkv", up.split(width), strict=True):
        assert_close(added[f"transformer_blocks.0.attn.to_{part}"], 0.5 * rows @ down, FORWARD)


@pytest.mark.parametrize(
    "unknown", ["double_blocks_0_img_nothing", "double_blocks_77_img_attn_proj", "x_y"]
)
def test_a_layer_that_diffusers_cannot_translate_is_named_beside_those_it_can(tiny, tmp_path, unknown):
    model = tiny("generators", "flux")
    pipe = opened(model)
    width = modules_of(pipe)["transformer"]["transformer_blocks.0.attn.to_q"][1]
    pair = torch.randn(RANK, width), torch.randn(width, RANK)
    names = ("double_blocks_0_img_attn_proj", "double_blocks_0_txt_attn_proj", unknown)
    state = kohya(dict.fromkeys(names, pair), alpha=4)
    state["lora_unet_double_blocks_0_txt_attn_proj.dora_scale"] = torch.ones(width)
    (note,) = load_adapter(pipe, str(saved(state, tmp_path / "x.safetensors")), model)

    assert "1 of 3 layers" in note
    assert "not read: 1 layer of DoRA" in note
    assert unknown.split("_")[-1] in note
    assert_adds(pipe.transformer, {"transformer_blocks.0.attn.to_out.0": pair})


def test_a_half_known_file_is_used_so_far_and_both_counts_are_said(pipe, attention, tmp_path):
    """A third of the layers is known; the rest stands below a module that the model has not."""
    known = dict(list(attention.items())[: len(attention) // 3])
    state = {
        ("unet." if name in known else "unet.nothing.") + rest: value
        for name, pair in attention.items()
        for rest, value in dotted({name: pair}, "").items()
    }
    (note,) = load_adapter(pipe, str(saved(state, tmp_path / "half.safetensors")), SHAPES)

    assert f"{len(known)} of {len(attention)} layers" in note
    assert "unet.nothing." in note
    assert f"and {len(attention) - len(known) - 3} more" in note
    assert_adds(pipe.unet, known)


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (
            {
                "unet.mid_block.q.lora_A.weight": torch.ones(4, 8),
                "unet.mid_block.q.lora_B.weight": torch.ones(8, 4),
            },
            "unet.mid_block.q",
        ),
        (
            {
                "text_encoder_9.x.lora_A.weight": torch.ones(4, 8),
                "text_encoder_9.x.lora_B.weight": torch.ones(8, 4),
            },
            "text_encoder_9.x",
        ),
        (
            {
                "lora_te_text_model_x.lora_down.weight": torch.ones(4, 8),
                "lora_te_text_model_x.lora_up.weight": torch.ones(8, 4),
            },
            "lora_te_text_model_x",
        ),
        ({"emb_params": torch.ones(2, 8)}, "1 tensor of no layer: emb_params"),
    ],
)
def test_whatever_else_a_file_holds_is_named(pipe, attention, tmp_path, extra, told):
    state = {**dotted(attention, "unet."), **extra}
    (note,) = load_adapter(pipe, str(saved(state, tmp_path / "x.safetensors")), SHAPES)

    assert told in note
    assert_adds(pipe.unet, attention)


@pytest.mark.parametrize(
    ("rename", "seen"),
    [
        (lambda name: f"foo.bar.{name}", "foo.bar."),
        (lambda name: f"unet.nothing.{name}", "unet.nothing."),
        (lambda name: name.replace("blocks", "stages").replace("mid_block", "centre"), "down_stages.1."),
    ],
)
def test_a_file_of_which_nothing_matches_is_refused_with_the_prefixes(
    pipe, attention, tmp_path, rename, seen
):
    state = dotted({rename(name): pair for name, pair in attention.items()}, "")
    with pytest.raises(UsageError) as caught:
        load_adapter(pipe, str(saved(state, tmp_path / "x.safetensors")), SHAPES)

    assert f"none of its {len(attention)} layers" in caught.value.message
    assert seen in caught.value.message
    for wanted in ("unet.", "transformer.", "diffusion_model.", "lora_unet_"):
        assert wanted in caught.value.hint
    assert changes(pipe.unet) == {}


def test_layers_of_other_sizes_are_another_models(pipe, attention, tmp_path):
    first = next(iter(attention))
    wrong = {**attention, first: (torch.ones(RANK, 7), attention[first][1])}
    with pytest.raises(UsageError, match=r"1 of its \d+ layers has another shape") as caught:
        load_adapter(pipe, str(saved(dotted(wrong, "unet."), tmp_path / "x.safetensors")), SHAPES)
    assert first in caught.value.message


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("dora_scale", "DoRA"),
        ("lora_mid.weight", "CP decomposition"),
        ("hada_w1_a", "LoHa"),
        ("lokr_w1", "LoKr"),
    ],
)
def test_a_layer_of_another_kind_is_left_out_whole_and_counted(pipe, attention, tmp_path, suffix, kind):
    first = next(iter(attention))
    state = kohya(attention, alpha=4)
    state[f"lora_unet_{first.replace('.', '_')}.{suffix}"] = torch.ones(4, 4)
    (note,) = load_adapter(pipe, str(saved(state, tmp_path / "x.safetensors")), SHAPES)

    assert f"{len(attention) - 1} of {len(attention)} layers" in note
    assert f"not read: 1 layer of {kind}" in note
    assert_adds(pipe.unet, {name: pair for name, pair in attention.items() if name != first})


def test_a_file_of_other_kinds_only_is_refused(pipe, attention, tmp_path):
    state = {}
    for name in attention:
        base = f"lora_unet_{name.replace('.', '_')}"
        state |= {f"{base}.lokr_w1": torch.ones(2, 2), f"{base}.lokr_w2": torch.ones(2, 2)}
    with pytest.raises(UsageError, match=f"{len(attention)} layers of LoKr"):
        load_adapter(pipe, str(saved(state, tmp_path / "x.safetensors")), SHAPES)


def test_one_file_of_any_name_is_the_folders_lora_and_of_several_one_must_be_named(
    pipe, attention, tmp_path
):
    state = dotted(attention, "unet.")
    saved(state, tmp_path / "styleLora_v10.safetensors")
    (tmp_path / "README.md").write_text("")
    load_adapter(pipe, str(tmp_path), SHAPES)
    assert_adds(pipe.unet, attention)

    saved(state, tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match=r"other\.safetensors, styleLora_v10\.safetensors"):
        load_adapter(opened(SHAPES), str(tmp_path), SHAPES)

    own = factors(pipe, "unet", ("to_k",), 5)
    saved(dotted(own, "unet."), tmp_path / "pytorch_lora_weights.safetensors")
    fresh = opened(SHAPES)
    load_adapter(fresh, str(tmp_path), SHAPES)
    assert_adds(fresh.unet, own)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff" * 64, (16).to_bytes(8, "little") + b'{"a":"no table"}']
)
def test_a_broken_file_is_told_in_two_lines(pipe, tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(RpoError) as caught:
        load_adapter(pipe, str(tmp_path / "x.safetensors"), SHAPES)
    assert "x.safetensors" in caught.value.message


def test_a_pickle_is_refused_with_its_conversion(pipe, tmp_path):
    (tmp_path / "x.pt").write_bytes(b"")
    with pytest.raises(UsageError) as caught:
        load_adapter(pipe, str(tmp_path / "x.pt"), SHAPES)
    assert "rpo convert" in caught.value.hint


def test_a_layer_with_one_factor_is_counted_and_not_used():
    state = {"unet.a.lora_A.weight": (4, 8), "unet.b.lora_A.weight": (4, 8), "unet.b.lora_B.weight": (8, 4)}
    found = match(state, {"unet": {"a": (8, 8), "b": (8, 8)}})

    assert list(found.found) == [("unet", "b")]
    assert (found.layers, dict(found.unread)) == (2, {"one factor without the other": 1})


def test_every_tensor_of_a_file_belongs_to_a_layer_or_is_loose(tmp_path):
    """Random names: none is lost between layers and loose keys."""
    generator = torch.Generator().manual_seed(3)
    heads = ["unet.a", "lora_unet_b", "x", "diffusion_model.c.d", "text_encoder.e", "a.b.lora"]
    tails = [
        ".lora_A.weight",
        ".lora_up.weight",
        ".alpha",
        ".dora_scale",
        ".weight",
        "",
        ".hada_w2_b",
        ".diff_b",
    ]
    for _ in range(200):
        picks = torch.randint(0, 48, (6,), generator=generator).tolist()
        keys = {heads[pick % 6] + tails[pick // 6] for pick in picks}
        layers, loose = layers_of(keys)
        held = [key for layer in layers for key in layer.keys.values()]
        others = [key for key in keys if key not in held and key not in loose]
        assert all(key.endswith((".dora_scale", ".hada_w2_b", ".diff_b")) for key in others)
        assert len(held) == len(set(held))


def test_prefixes_are_told_by_frequency():
    assert prefixes(["foo.bar.a", "lora_x_y", "foo.bar.b"]) == ["foo.bar.", "lora_x_"]


@pytest.mark.parametrize("ones", [(1, 1), ()])
def test_a_convolution_of_one_pixel_and_a_linear_layer_stand_for_each_other(pipe, tmp_path, ones):
    """Attention is linear in the embedded model; its shortcuts are convolutions of one pixel."""
    found = factors(pipe, "unet", ("to_q",)) | factors(pipe, "unet", ("conv_shortcut",))
    shaped = {
        name: tuple(factor.reshape(*factor.shape[:2], *ones) for factor in pair)
        for name, pair in found.items()
    }

    assert load_adapter(pipe, str(saved(dotted(shaped, "unet."), tmp_path / "x.safetensors")), SHAPES) == []
    added = changes(pipe.unet)
    assert added.keys() == found.keys()
    for name, (down, up) in found.items():
        assert_close(added[name].flatten(1), up.flatten(1) @ down.flatten(1), FORWARD)


@pytest.mark.parametrize("part", ["lora_down.weight", "lora_up.weight", "alpha"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused_by_the_tensors_name(pipe, attention, tmp_path, part, value):
    state = kohya(attention, alpha=4)
    key = next(key for key in state if key.endswith(part))
    state[key] = state[key].clone()
    state[key].view(-1)[0] = value
    with pytest.raises(UsageError) as caught:
        load_adapter(pipe, str(saved(state, tmp_path / "x.safetensors")), SHAPES)

    assert f"{key} holds what is no number" in caught.value.message
    assert changes(pipe.unet) == {}


def test_an_alpha_of_several_numbers_is_refused(pipe, attention, tmp_path):
    state = kohya(attention, alpha=4)
    key = next(key for key in state if key.endswith("alpha"))
    state[key] = torch.tensor([4.0, 4.0])
    with pytest.raises(UsageError, match=f"{key} is 2 numbers"):
        load_adapter(pipe, str(saved(state, tmp_path / "x.safetensors")), SHAPES)


def test_layers_that_add_nothing_are_counted(pipe, attention, tmp_path):
    state = kohya(attention, alpha=4)
    names = [key.removesuffix(".alpha") for key in state if key.endswith(".alpha")]
    state[f"{names[0]}.alpha"] = torch.tensor(0.0)
    state[f"{names[1]}.lora_up.weight"] = torch.zeros_like(state[f"{names[1]}.lora_up.weight"])
    (note,) = load_adapter(pipe, str(saved(state, tmp_path / "x.safetensors")), SHAPES)

    assert "2 of them add nothing" in note


def test_a_layer_under_two_names_is_read_once_and_said_so(pipe, attention, tmp_path):
    state = {**dotted(attention, "unet."), **dotted(attention, "transformer.")}
    (note,) = load_adapter(pipe, str(saved(state, tmp_path / "x.safetensors")), SHAPES)

    assert f"{len(attention)} of {2 * len(attention)} layers" in note
    assert f"not read: {len(attention)} layers of a second name for one layer" in note
    assert "has no" not in note
    assert_adds(pipe.unet, attention)
