"""Loading a diffusers pipeline the safe way: safetensors only, no remote code, errors in two lines."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.utils import logging as diffusers_logging
from PIL.Image import Image as Picture
from PIL.Image import Resampling
from transformers.utils import logging as transformers_logging

from rpo_cli import installing
from rpo_cli.backends.loading import first_line, quiet
from rpo_cli.errors import MissingDependency, RpoError, UsageError, nearest
from rpo_cli.model_files import OPTIONAL, pipeline_loaded
from rpo_cli.single_file import is_single_file, single_file

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_pipeline(
    model: str,
    *,
    revision: str | None,
    device: str,
    dtype: str,
    scheduler: str | None,
    scheduler_config: Mapping[str, Any] | None = None,
    denoiser: str | None = None,
    kind: str = "DiffusionPipeline",
    parts: Mapping[str, Any] | None = None,
) -> Any:
    """The pipeline that the folder's own `model_index.json` names, on its device, without progress bars.

    Args:
        model: a diffusers folder, a checkpoint in one file, or a hub id.
        scheduler: a diffusers scheduler class to use instead of the model's own.
        scheduler_config: what it is made with beside the configuration of the model's own.
        kind: the pipeline class to load the folder's parts into, where it is not the folder's own.
        parts: components that the folder does not hold.
        denoiser: folder of a UNet or transformer to use instead of the model's own.

    Raises:
        UsageError: no such scheduler, or `denoiser` is none.
        RpoError: the folder does not load; the library's reason is in the message.
    """
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    scheduler_class = scheduler_named(scheduler) if scheduler else None
    own = _denoiser(Path(denoiser), DTYPES[dtype]) if denoiser else {}
    given = {**own, **(parts or {})}
    try:
        pipe = (
            _from_file(model, dtype, kind, given)
            if is_single_file(model)
            else _from_folder(model, revision, dtype, kind, given)
        )
    except ImportError as error:
        raise _missing(model, error) from error
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RuntimeError) as error:
        raise RpoError(
            f"{model}: cannot be loaded as a diffusers pipeline: {first_line(error)}",
            "the folder must hold model_index.json and safetensors weights; see `rpo doctor`, and "
            "`rpo convert` for pickled weights",
        ) from error
    if scheduler_class is not None:
        pipe.scheduler = scheduler_class.from_config(pipe.scheduler.config, **(scheduler_config or {}))
    pipe.set_progress_bar_config(disable=True)
    pipe.to(device)
    _channels_last(pipe, device)
    return pipe


def _from_folder(model: str, revision: str | None, dtype: str, kind: str, parts: Mapping[str, Any]) -> Any:
    loader: Any = getattr(diffusers, kind)
    how = {"revision": revision, "dtype": DTYPES[dtype], "use_safetensors": True}

    def load(place: str, told: dict[str, Any]) -> Any:
        return loader.from_pretrained(place, **{**told, **how, **parts})

    return pipeline_loaded(model, revision, load, DTYPES[dtype])


def _from_file(model: str, dtype: str, kind: str, parts: Mapping[str, Any]) -> Any:
    """A checkpoint in one file, into `kind` or the class that its configuration names."""
    found = single_file(model)
    loader: Any = getattr(diffusers, kind if kind != "DiffusionPipeline" else found.index["_class_name"])
    how = {"config": str(found.config), "dtype": DTYPES[dtype], "local_files_only": True}
    absent = dict.fromkeys(name for name in OPTIONAL if name in found.index)
    with quiet():  # of weights that it keeps in float32, and none are
        return loader.from_single_file(model, **{**absent, **how, **found.options, **parts})


def _missing(model: str, error: ImportError) -> MissingDependency:
    package = error.name or ("torchvision" if "torchvision" in str(error).lower() else "a package")
    return MissingDependency(
        f"{model}: loading it needs {package}: {first_line(error)}",
        f"{installing.package(package)}; see `rpo list`" if error.name else "see `rpo list`",
    )


def _denoiser(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Component name → the denoiser that a folder holds, of the class that its own config names."""
    try:
        name = str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder}: no folder of a denoiser: {error}", _TUNED) from error
    kind = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin)):
        raise UsageError(f"{folder}: '{name}' is no model of diffusers", _TUNED)
    try:
        loaded: Any = kind.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise RpoError(f"{folder}: cannot be loaded as {name}: {error}", _TUNED) from error
    return {"transformer" if "Transformer" in name else "unet": loaded}


_TUNED = "give the unet or transformer folder that `rpo train --full` wrote"


def scheduler_named(name: str) -> Any:
    known = [n for n in dir(diffusers) if n.endswith("Scheduler") and not n.startswith("Flax")]
    if name not in known:
        raise UsageError(
            f"'{name}' is no diffusers scheduler{nearest(name, known)}",
            "e.g. DDIMScheduler, EulerDiscreteScheduler",
        )
    return getattr(diffusers, name)


def _channels_last(pipe: Any, device: str) -> None:
    """Convolutions run a third faster on CPUs in this layout (measured on the embedded UNet)."""
    if device == "cpu" and isinstance(getattr(pipe, "unet", None), torch.nn.Module):
        pipe.unet.to(memory_format=torch.channels_last)


def generators(seeds: list[int]) -> list[torch.Generator]:
    """One CPU generator per row: a row's noise never depends on its place in the batch or the device."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def working_size(size: tuple[int, int], multiple: int, area: int | None = None) -> tuple[int, int]:
    """The nearest width and height that a model takes, at about `area` pixels where that is given."""
    width, height = size
    scale = math.sqrt(area / (width * height)) if area else 1.0
    return (
        max(multiple, round(width * scale / multiple) * multiple),
        max(multiple, round(height * scale / multiple) * multiple),
    )


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    return picture if picture.size == size else picture.resize(size, Resampling.LANCZOS)


def finished(out: Any, size: tuple[int, int] | None = None) -> list[Picture | None]:
    """The pictures of a pipeline's output, of one size; None where a safety checker blacked one out."""
    flags = getattr(out, "nsfw_content_detected", None) or [False] * len(out.images)
    pictures = [image.convert("RGB") for image in out.images]
    return [
        None if flagged else resized(picture, size or picture.size)
        for picture, flagged in zip(pictures, flags, strict=True)
    ]
