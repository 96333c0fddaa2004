"""A model in one safetensors file → a folder in diffusers' layout, its numbers as they are."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from rpo_cli.errors import UsageError
from rpo_cli.model_files import OPTIONAL, empty, header
from rpo_cli.recipes.kinds import EDM
from rpo_cli.single_file import SingleFile, is_denoiser

DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16}  # others become float32


def unpack(found: SingleFile, folder: Path) -> None:
    """Write the pipeline of a checkpoint into `folder`, in the precision of its denoiser.

    Raises:
        UsageError: diffusers cannot read it with this configuration; its reason is in the message.
    """
    name = str(found.index["_class_name"])
    loader: Any = getattr(diffusers, name, None)
    if loader is None:
        raise UsageError(f"{found.config}: '{name}' is no pipeline of diffusers", "give another --config")
    absent = dict.fromkeys([*(part for part in OPTIONAL if part in found.index), *empty(found.index)])
    how = {"config": str(found.config), "dtype": _dtype(found.file), "local_files_only": True}
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    level = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    try:
        pipe = loader.from_single_file(str(found.file), **absent, **how, **found.options)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"{found.file}: does not fit the configuration {found.config}: {reason}",
            "give the folder of a model of its kind: --config FOLDER",
        ) from error
    finally:
        diffusers_logging.set_verbosity(level)
    if found.index["scheduler"][1] == "EDMEulerScheduler" and found.options:
        pipe.scheduler = diffusers.EDMEulerScheduler(**EDM)
    pipe.save_pretrained(folder, safe_serialization=True)


def _dtype(file: Path) -> torch.dtype:
    held = {name: entry["dtype"] for name, entry in header(file).items() if is_denoiser(name)}
    return DTYPES.get(held[min(held)], torch.float32)
