"""A whole model in one safetensors file, as SD 1.5, SDXL, SD3 and FLUX are handed on beside the hub.

The file holds weights in the original code's names and no configuration. That stands in a folder of the
same name beside it, where there is one (`sd15.safetensors`, `sd15/model_index.json`), else in the
repository that diffusers takes for a file of this kind, in the hub's cache.
"""

import json
import re
import shlex
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from rpo_cli.adapters import is_adapter
from rpo_cli.errors import UsageError
from rpo_cli.model_files import INDEX, SUFFIX, Shapes, published, shapes

CONFIGS = ("*.json", "*.txt", "*.model")
# how the names of a part's weights begin, in files that hold more than the denoiser
PARTS = {
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0.", "text_encoders.clip_l."),
    "text_encoder_2": ("conditioner.embedders.1.", "text_encoders.clip_g.", "text_encoders.t5xxl."),
    "text_encoder_3": ("text_encoders.t5xxl.",),
}
_DENOISER = re.compile(
    r"(model\.diffusion_model\.)?(input_blocks|double_blocks|joint_blocks|single_blocks|double_stream_blocks)\."
)
FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"
EDITS_CHANNELS = 8  # noise and the picture's latents
_EDITORS = {
    "StableDiffusionPipeline": "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLInstructPix2PixPipeline",
}
EDM = "edm_vpred.sigma_max"  # by which ComfyUI knows CosXL too


@dataclass(frozen=True)
class SingleFile:
    """A checkpoint and the folder that configures it.

    Attributes:
        index: model_index.json, its class and scheduler as the file's own weights say.
        source: for a sentence: the folder or hub id of the configuration.
        options: what `from_single_file` is told beside.
    """

    file: Path
    config: Path
    index: dict[str, Any]
    source: str
    options: dict[str, Any]


def is_denoiser(name: str) -> bool:
    """Whether a tensor's name is one of a denoiser in its original code."""
    return _DENOISER.match(name) is not None


@cache
def single_file(ref: str, config: Path | None = None) -> SingleFile:
    """The checkpoint with its configuration, which is downloaded where the hub's cache lacks it.

    Args:
        config: folder of a model of its kind; None: the one beside the file, else the hub's.

    Raises:
        UsageError: it is no checkpoint of a whole model, or its configuration cannot be had; tells what
            makes it.
    """
    file = Path(ref)
    try:
        held = shapes(file)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{file}: is a file that cannot be read as safetensors: {error}", "download it again"
        ) from error
    if is_adapter(file):
        raise UsageError(f"{file}: is a LoRA, no model", "--lora takes it, beside the model it is for")
    if not any(map(is_denoiser, held)):
        raise UsageError(
            f"{file}: is a file, but no checkpoint of a whole model; its first tensor is "
            f"{min(held, default='none')}",
            "of a model in parts give the folder with model_index.json (or config.json)",
        )
    beside = config or file.with_suffix("")
    local = config is not None or (beside / INDEX).is_file()
    source = str(beside) if local else _kind(held)
    place = beside if local else _of_hub(file, source, [])
    index = _read(place / INDEX)
    lacking = _lacking(index, held, place)
    if lacking and not local:
        place = _of_hub(file, source, lacking)
        lacking = _lacking(index, held, place)
    if lacking:
        patterns = [*CONFIGS, *(f"{part}/*" for part in lacking)]
        raise UsageError(
            f"{file}: holds no {', '.join(lacking)}, and {place} has no weights of it",
            f"{_download(_kind(held), patterns, beside)} puts it there",
        )
    return SingleFile(file, place, _adjusted(index, held), source, _options(index, held))


def _kind(held: Shapes) -> str:
    """The repository whose configuration diffusers takes for such a file."""
    diffusers = import_module("diffusers.loaders.single_file_utils")
    kind = diffusers.infer_diffusers_model_type({name: _Shaped(shape) for name, shape in held.items()})
    return str(diffusers.DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"])


@dataclass(frozen=True)
class _Shaped:
    """A tensor as far as its kind is told from it."""

    shape: tuple[int, ...]


def _of_hub(file: Path, source: str, parts: list[str]) -> Path:
    """The snapshot in the hub's cache with the configuration and with the weights of `parts`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [*CONFIGS, *(f"{part}/*" for part in parts)]
    for local in (not parts, False):
        try:
            found = Path(snapshot_download(source, allow_patterns=patterns, local_files_only=local))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
            continue
        if (found / INDEX).is_file() and not published(found).lacking:  # all of it is cached
            return found
    beside = file.with_suffix("")
    raise UsageError(
        f"{file}: a single file holds no configuration; that of its kind ({source}) is not in the hub's "
        f"cache, the hub cannot be reached, and no folder {beside} has {INDEX}",
        f"{_download(source, patterns, beside)} makes it where there is a network; with the folder of "
        f"another model of its kind: rpo convert {shlex.quote(str(file))} OUT --config FOLDER",
    )


def _download(source: str, patterns: list[str], out: Path) -> str:
    included = " ".join(f"--include {shlex.quote(pattern)}" for pattern in patterns)
    return f"hf download {source} {included} --local-dir {shlex.quote(str(out))}"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}", "download it again") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path}: is no table", "download it again")
    return found


def _lacking(index: dict[str, Any], held: Shapes, config: Path) -> list[str]:
    """Parts whose weights are neither in the file nor in the configuration's folder."""
    named = [part for part in PARTS if (index.get(part) or [None])[0]]
    absent = [part for part in named if not any(name.startswith(PARTS[part]) for name in held)]
    return [part for part in absent if not any((config / part).glob(f"*{SUFFIX}"))]


def _edits(index: dict[str, Any], held: Shapes) -> bool:
    """Whether the weights are an editor's, though the configuration is of the model it was made from."""
    shape = held.get(FIRST_LAYER, ())
    return len(shape) > 1 and shape[1] == EDITS_CHANNELS and index.get("_class_name") in _EDITORS


def _adjusted(index: dict[str, Any], held: Shapes) -> dict[str, Any]:
    if not _edits(index, held):
        return index
    scheduler = {"scheduler": ["diffusers", "EDMEulerScheduler"]} if EDM in held else {}
    return {**index, "_class_name": _EDITORS[index["_class_name"]], **scheduler}


def _options(index: dict[str, Any], held: Shapes) -> dict[str, Any]:
    return {"num_in_channels": EDITS_CHANNELS} if _edits(index, held) else {}
