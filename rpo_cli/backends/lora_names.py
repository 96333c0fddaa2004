"""Which layer of a model each tensor of a LoRA file is for; what is said of those for none.

diffusers, peft, kohya and ComfyUI name one layer in four ways: with a prefix of their own, dots or
underscores between the parts, and suffixes of their own for the two factors. A layer's own name tells it
in all of them, so names are looked up among those of the model; names of another layout of the model (the
original SDXL, FLUX) diffusers translates first, see `lora.py`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rpo_cli.errors import UsageError
from rpo_cli.model_files import DENOISERS

# prefix → the part of the pipeline that it stands for; several may follow each other
_DENOISER = (
    *("base_model.model.", "model.diffusion_model.", "diffusion_model.", "unet.", "transformer."),
    *("lora_unet_", "lora_transformer_", "lycoris_"),
    *("module.", "_orig_mod."),  # of a model that was trained on several cards, or compiled
)
_TEXTS = {
    "text_encoder_3.": "text_encoder_3",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder.": "text_encoder",
    "text_encoders.clip_l.transformer.": "text_encoder",
    "text_encoders.clip_g.transformer.": "text_encoder_2",
    "lora_te3_": "text_encoder_3",
    "lora_te2_": "text_encoder_2",
    "lora_te1_": "text_encoder",
    "lora_te_": "text_encoder",
}
WANTED = "unet., transformer., text_encoder., diffusion_model., base_model.model., lora_unet_, lora_te_"
_PARTS = {
    "down": re.compile(r"(\.lora_A(\.\w+)?|\.lora_down|[._]lora\.down|\.lora_linear_layer\.down)\.weight$"),
    "up": re.compile(r"(\.lora_B(\.\w+)?|\.lora_up|[._]lora\.up|\.lora_linear_layer\.up)\.weight$"),
    "alpha": re.compile(r"((_lora|\.lora_linear_layer)\.down\.weight)?\.alpha$"),
    "bias": re.compile(r"\.lora_B(\.\w+)?\.bias$"),
}
# kinds of adapters that are no plain LoRA: their layers are left out whole
_KINDS = {
    "DoRA": re.compile(r"\.(dora_scale|lora_magnitude_vector)(\.\w+)*$"),
    "LoHa": re.compile(r"\.hada_\w+(\.weight)?$"),
    "LoKr": re.compile(r"\.lokr_\w+(\.weight)?$"),
    "CP decomposition": re.compile(r"\.lora_mid\.weight$"),
    "OFT": re.compile(r"\.b?oft_\w+(\.\w+)*$"),
    "whole weights": re.compile(r"\.(diff|diff_b|set_weight|on_input|[wb]_norm)$"),
}
# layers of a model's original code, whose names diffusers translates
ORIGINAL = re.compile(
    r"(input|middle|output)_blocks?|(double|single|joint)_(transformer_)?blocks|processor|img_attn|txt_attn"
)
# of the names that diffusers' attention processors once had, as parts between underscores
_OLD = (("_processor_", "_"), ("_self_attn_to_out", "_self_attn_out_proj"))
_OLD_TEXT = re.compile(r"_self_attn_to_([qkv])$")

Modules = Mapping[str, Mapping[str, tuple[int, ...]]]  # component → layer → shape of its weight


@dataclass(frozen=True)
class Layer:
    """A layer of the file: `name` as it is written there, `keys` by part."""

    name: str
    keys: dict[str, str]
    kind: str | None = None


@dataclass(frozen=True)
class Matched:
    """What of a file is for which layer of the model.

    Attributes:
        found: (component, layer of the model) → layer of the file.
        unknown: layers of the file that the model has not.
        unlike: layers whose shapes are not the model's.
        unread: layers of another kind than LoRA, or with one factor only; kind → how many.
        loose: keys that belong to no layer.
    """

    found: dict[tuple[str, str], Layer]
    unknown: list[str] = field(default_factory=list)
    unlike: list[str] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    loose: list[str] = field(default_factory=list)

    @property
    def layers(self) -> int:
        """How many layers the file holds."""
        return len(self.found) + len(self.unknown) + len(self.unlike) + self.unread.total()


def layers_of(keys: Iterable[str]) -> tuple[list[Layer], list[str]]:
    """The layers of a file by its keys, and the keys that belong to none."""
    parts: dict[str, dict[str, str]] = {}
    kinds: dict[str, str] = {}
    loose = []
    for key in sorted(keys):
        for kind, pattern in _KINDS.items():
            if pattern.search(key):
                kinds[pattern.sub("", key)] = kind
                parts.setdefault(pattern.sub("", key), {})
                break
        else:
            part = next((name for name, pattern in _PARTS.items() if pattern.search(key)), None)
            if part is None:
                loose.append(key)
            else:
                parts.setdefault(_PARTS[part].sub("", key), {})[part] = key
    made = [Layer(name, found, kinds.get(name) or _half(found)) for name, found in parts.items()]
    return made, loose


def _half(parts: Mapping[str, str]) -> str | None:
    return None if {"down", "up"} <= parts.keys() else "one factor without the other"


def match(shapes: Mapping[str, tuple[int, ...]], modules: Modules) -> Matched:
    """Look every layer of a file up in the model.

    Args:
        shapes: of the file's tensors, by key.
        modules: the model's layers with a weight of two or more dimensions.
    """
    layers, loose = layers_of(shapes)
    index = {component: _index(component, names) for component, names in modules.items()}
    result = Matched({}, loose=loose)
    for layer in layers:
        place = _place(layer.name, index)
        if place is None:
            result.unknown.append(layer.name)
        elif layer.kind is not None:
            result.unread[layer.kind] += 1
        elif not _fits(layer, shapes, modules[place[0]][place[1]]):
            result.unlike.append(layer.name)
        elif place in result.found:
            result.unread["a second name for one layer"] += 1
        else:
            result.found[place] = layer
    return result


def _index(component: str, names: Iterable[str]) -> dict[str, str]:
    """Name without dots → the layer."""
    return {_plain(component, name): name for name in names}


def _plain(component: str, name: str) -> str:
    name = f"_{name}".replace(".", "_")
    for old, new in _OLD:
        name = name.replace(old, new)
    name = _OLD_TEXT.sub(r"_self_attn_\1_proj", name)[1:]
    return name if component in DENOISERS else name.removeprefix("text_model_")


def _place(name: str, index: Mapping[str, Mapping[str, str]]) -> tuple[str, str] | None:
    component, rest = stripped(name, next((one for one in DENOISERS if one in index), "unet"))
    known, plain = index.get(component, {}), _plain(component, rest)
    found = known.get(plain)
    if found is None and plain.endswith("_to_out"):
        found = known.get(f"{plain}_0")
    return None if found is None else (component, found)


def stripped(name: str, denoiser: str) -> tuple[str, str]:
    """Which part of the pipeline a name is of, and the name in it."""
    component = denoiser
    while True:
        text = next((prefix for prefix in _TEXTS if name.startswith(prefix)), None)
        prefix = text or next((prefix for prefix in _DENOISER if name.startswith(prefix)), None)
        if prefix is None:
            return component, name
        component = _TEXTS[text] if text else component
        name = name.removeprefix(prefix)


def _fits(layer: Layer, shapes: Mapping[str, tuple[int, ...]], weight: tuple[int, ...]) -> bool:
    """Also where a convolution of one pixel stands for a linear layer, or that for the former."""
    down, up = shapes[layer.keys["down"]], shapes[layer.keys["up"]]
    if len(down) < 2 or len(up) < 2 or set(up[2:]) - {1}:
        return False
    return up[1] == down[0] and _matrix((up[0], *down[1:])) == _matrix(weight)


def _matrix(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if not set(shape[2:]) - {1} else shape


def prefixes(names: Iterable[str]) -> list[str]:
    """How layers' names begin, the most frequent first, five at most."""
    heads: Counter[str] = Counter()
    for name in names:
        dotted, parts = name.split("."), name.split("_")
        heads[".".join(dotted[:2]) + "." if len(dotted) > 2 else "_".join(parts[:2]) + "_"] += 1
    return [head for head, _ in heads.most_common(5)]


FIRST = 3  # names that are told


def refuse(ref: str, matched: Matched, model: str) -> None:
    """Refuse a LoRA of which nothing is for the model, or whose layers are of other sizes.

    Raises:
        UsageError: tells the prefixes seen and wanted, or the layer.
    """
    if matched.unlike:
        count = len(matched.unlike)
        raise UsageError(
            f"{ref}: {count} of its {matched.layers} layers {_have(count)} another shape than in {model}, "
            f"e.g. {matched.unlike[0]}",
            "it was made for another model: give one of this model",
        )
    if matched.found:
        return
    if not matched.layers:
        raise UsageError(
            f"{ref}: holds no layer of a LoRA (first tensor: {next(iter(matched.loose), 'none')})",
            "give a LoRA's file or folder",
        )
    if matched.unread:
        raise UsageError(
            f"{ref}: nothing of it can be read: {_kinds(matched)}", "give a plain LoRA (lora_A and lora_B)"
        )
    seen = ", ".join(prefixes(matched.unknown))
    raise UsageError(
        f"{ref}: none of its {matched.layers} layers is one of {model}: names begin with {seen}",
        f"wanted are names of the model's layers behind {WANTED} or no prefix; it may be another model's",
    )


def refuse_foreign(ref: str, layers: Mapping[str, tuple[int, ...]], modules: Modules, model: str) -> None:
    """As `refuse`, where nothing is left that diffusers may yet translate."""
    found = match(layers, modules)
    if found.unlike or not any(ORIGINAL.search(name) for name in found.unknown):
        refuse(ref, found, model)


def note_of(ref: str, matched: Matched, idle: int = 0) -> list[str]:
    """A sentence with both counts where not all of the file was read, else none.

    Args:
        idle: layers among those found that add nothing.
    """
    parts = []
    if matched.unknown:
        parts.append(f"this model has no {_listed(matched.unknown)}")
    if matched.unread:
        parts.append(f"not read: {_kinds(matched)}")
    if matched.loose:
        tensors = "1 tensor" if len(matched.loose) == 1 else f"{len(matched.loose)} tensors"
        parts.append(f"{tensors} of no layer: {_listed(matched.loose)}")
    if idle:
        parts.append(f"{idle} of them {'adds' if idle == 1 else 'add'} nothing (a factor or alpha of 0)")
    if not parts:
        return []
    used = f"{len(matched.found)} of {matched.layers} layers of this LoRA are used"
    return [f"{ref}: {used}; {'; '.join(parts)}"]


def _kinds(matched: Matched) -> str:
    counted = sorted(matched.unread.items())
    return ", ".join(f"{count} layer{'s' * (count != 1)} of {kind}" for kind, count in counted)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - FIRST} more" if len(names) > FIRST else ""
    return ", ".join(names[:FIRST]) + more


def _have(count: int) -> str:
    return "has" if count == 1 else "have"
