"""A diffusers pipeline of Stable Diffusion 1.x as one file in the original code's names."""

import re
from pathlib import Path

from safetensors.torch import save_file

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_name(name: str, layers: int, attends: set[int]) -> str:
    """`layers` of each block; `attends`: the up blocks with attention."""
    for ours, theirs in OUTER.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name)
    if found is None:
        kind, place, rest = re.fullmatch(r"mid_block\.(\w+)\.(\d+)\.(.+)", name).groups()
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(place)}.{inner(rest)}"
    side, level, kind, place, rest = found.groups()
    first = int(level) * (layers + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + layers + 1}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{first + layers}.{2 if int(level) in attends else 1}.{rest}"
    block = first + int(place) + (side == "down")
    where = "input_blocks" if side == "down" else "output_blocks"
    return f"{where}.{block}.{int(kind == 'attentions')}.{inner(rest)}"


def inner(rest: str) -> str:
    head, _, tail = rest.partition(".")
    return f"{RESNET.get(head, head)}.{tail}"


def vae_name(name: str, levels: int) -> str:
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions.0." in name:
        name = name.replace("mid_block.attentions.0.", "mid.attn_1.")
        for ours, theirs in ATTENTION.items():
            name = name.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(
        r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{levels - 1 - int(m[1])}.block.{m[2]}", name
    )
    name = re.sub(
        r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name
    )
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")


def state_of(pipe) -> dict:
    unet = pipe.unet.config
    attends = {place for place, kind in enumerate(unet.up_block_types) if kind.startswith("CrossAttn")}
    found = {}
    for name, value in pipe.unet.state_dict().items():
        found[f"model.diffusion_model.{unet_name(name, unet.layers_per_block, attends)}"] = value
    for name, value in pipe.vae.state_dict().items():
        original = vae_name(name, len(pipe.vae.config.block_out_channels))
        matrix = ".attn_1." in original and value.ndim == 2
        found[f"first_stage_model.{original}"] = value[:, :, None, None] if matrix else value
    for name, value in pipe.text_encoder.state_dict().items():
        inside = name.removeprefix("text_model.")
        found[f"cond_stage_model.transformer.text_model.{inside}"] = value
    return {name: value.contiguous() for name, value in found.items()}


def write(pipe, file: Path, **beside) -> Path:
    """`beside`: more tensors."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({**state_of(pipe), **beside}, file)
    return file


def configure(folder: Path, beside: Path) -> Path:
    """A pipeline folder's configuration alone, without a weight."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".txt", ".model"):
            target = beside / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return beside
