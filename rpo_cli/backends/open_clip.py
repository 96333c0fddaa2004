"""OpenCLIP's names of a CLIP's weights → those of transformers' CLIPModel.

Source: the attribute names of https://github.com/mlfoundations/open_clip and of transformers' CLIPModel.
"""

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

SIGN = "visual.conv1.weight"  # a file that holds it is OpenCLIP's
_WHOLE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "logit_scale": "logit_scale",
}
_TURNED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_BEGINNINGS = {
    "visual.ln_pre.": "vision_model.pre_layrnorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "ln_final.": "text_model.final_layer_norm.",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
_INSIDE = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "attn.out_proj.": "self_attn.out_proj.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CLIPModel's state dict; what has no place there (masks) is left out."""
    return {name: value for item in weights.items() for name, value in _renamed(*item)}


def _renamed(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    if name in _WHOLE:
        yield _WHOLE[name], value
    elif name in _TURNED:  # a matrix that rows are multiplied with, not a Linear's
        yield _TURNED[name], value.T.contiguous()
    elif block := _BLOCK.fullmatch(name):
        tower = "vision_model" if block[1] else "text_model"
        for inside, part in _in_block(block[3], value):
            yield f"{tower}.encoder.layers.{block[2]}.{inside}", part
    else:
        for old, new in _BEGINNINGS.items():
            if name.startswith(old):
                yield new + name.removeprefix(old), value


def _in_block(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    if name.startswith("attn.in_proj_"):
        kind = name.removeprefix("attn.in_proj_")
        for letter, part in zip("qkv", value.chunk(3), strict=True):
            yield f"self_attn.{letter}_proj.{kind}", part.contiguous()
    for old, new in _INSIDE.items():
        if name.startswith(old):
            yield new + name.removeprefix(old), value
