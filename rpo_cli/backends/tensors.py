"""Named tensors out of a model's safetensors, for heads that no library class knows."""

from typing import Any

from safetensors import safe_open
from torch import Tensor
from transformers.utils.hub import cached_file

from rpo_cli.model_files import part_loaded

WEIGHTS = "model.safetensors"


def _file(told: dict[str, Any]) -> str:
    return f"model.{told['variant']}.safetensors" if told else WEIGHTS


def holds(ref: str, revision: str | None, name: str) -> bool:
    """Whether there is a model.safetensors with a tensor of this name; sharded weights: False."""
    try:
        return bool(tensors(ref, revision, name))
    except (OSError, KeyError):
        return False


def tensors(ref: str, revision: str | None, beginning: str = "") -> dict[str, Tensor]:
    """The tensors whose name begins so.

    Args:
        ref: a folder, or a hub id whose file is fetched.

    Raises:
        OSError: there is no model.safetensors.
        KeyError: no tensor of that name.
    """
    place = part_loaded(ref, revision, lambda told: cached_file(ref, _file(told), revision=revision))
    assert place is not None, "cached_file raises where there is none"
    with safe_open(place, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(beginning)]  # noqa: SIM118, no mapping
        if not names:
            raise KeyError(f"no tensor {beginning}* in {WEIGHTS}")
        return {name: file.get_tensor(name) for name in names}
