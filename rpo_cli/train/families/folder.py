"""A diffusers model on disk or on the hub: each part loaded by itself, safetensors only, told errors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import diffusers
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from rpo_cli.errors import UsageError
from rpo_cli.model_files import part_loaded, pipeline_loaded
from rpo_cli.single_file import is_single_file, single_file
from rpo_cli.train.families.encoders import Condition, Encoders, quiet

T = TypeVar("T")


@dataclass(frozen=True)
class Folder:
    """Where a model is; `revision` is a branch, tag or commit on the hub."""

    model: str
    revision: str | None

    def index(self) -> dict[str, Any]:
        """model_index.json.

        Raises:
            UsageError: it is no diffusers model.
        """
        if is_single_file(self.model):
            return single_file(self.model).index
        found: dict[str, Any] = self.told(
            "model_index.json", lambda: DiffusionPipeline.load_config(self.model, revision=self.revision)
        )
        return found

    @property
    def configured(self) -> str:
        """Where the configurations of its parts are."""
        return str(single_file(self.model).config) if is_single_file(self.model) else self.model

    def config(self, part: str, loader: Any) -> dict[str, Any]:
        """The configuration of one part; `loader` is its class."""
        found: dict[str, Any] = self.told(
            part, lambda: loader.load_config(self.configured, subfolder=part, revision=self.revision)
        )
        return found

    def part(self, name: str, loader: Any) -> Any:
        """One small part, by `loader.from_pretrained`: a tokenizer, or a model's configuration."""
        return self.told(
            name, lambda: loader.from_pretrained(self.configured, subfolder=name, revision=self.revision)
        )

    def vae_config(self) -> dict[str, Any]:
        return self.config("vae", AutoencoderKL)

    def denoiser(self, part: str, loader: Any, dtype: torch.dtype) -> Any:
        """The denoiser in evaluation mode."""
        if is_single_file(self.model):
            how = {"config": self.configured, "subfolder": part, "dtype": dtype, "local_files_only": True}
            how |= single_file(self.model).options
            with quiet():  # of weights that it keeps in float32, and none are
                return self.told(part, lambda: loader.from_single_file(self.model, **how)).eval()
        how = {"use_safetensors": True, "dtype": dtype, "revision": self.revision, "subfolder": part}

        def load(also: dict[str, Any]) -> Any:
            return loader.from_pretrained(self.model, **how, **also)

        return self.told(part, lambda: part_loaded(self.model, self.revision, load, part)).eval()

    def encoders(
        self,
        pipeline: str,
        device: str,
        size: int,
        embed: Callable[[Any, list[str]], Condition],
        *,
        token_limits: dict[str, int],
        without: tuple[str, ...],
    ) -> Encoders:
        """The pipeline in float32 without the parts that `without` names, and so never to draw a picture.

        Args:
            token_limits: by tokenizer, the tokens that count; 0: as many as the tokenizer says.
        """
        loader = getattr(diffusers, pipeline)

        how = {"dtype": torch.float32, **dict.fromkeys(without)}

        def load(place: str, also: dict[str, Any]) -> Any:
            told = {**also, **how, "use_safetensors": True, "revision": self.revision}
            return loader.from_pretrained(place, **told)

        def whole() -> Any:
            if is_single_file(self.model):
                where = {"config": self.configured, "local_files_only": True}
                return loader.from_single_file(self.model, **where, **how)
            return pipeline_loaded(self.model, self.revision, load, torch.float32)

        with quiet():  # diffusers warns that the safety checker is off
            pipe = self.told("VAE and text encoders", whole)
        limits = {
            name: limit or getattr(pipe, name).model_max_length
            for name, limit in token_limits.items()
            if getattr(pipe, name, None) is not None
        }
        return Encoders(pipe.to(device), embed, limits, size)

    def told(self, what: str, load: Callable[[], T]) -> T:
        """`load()`, with its failure as a UsageError that names the part."""
        diffusers_logging.disable_progress_bar()  # progress is the observer's to show
        transformers_logging.disable_progress_bar()
        try:
            return load()
        except (OSError, ValueError, KeyError, TypeError) as error:
            text = str(error).strip()
            reason = text.splitlines()[0] if text else type(error).__name__
            raise UsageError(
                f"{self.model}: {what} cannot be loaded: {reason}",
                "give a diffusers folder or hub id with safetensors weights (pickle files are refused: "
                "`rpo convert FOLDER OUT` makes safetensors of them)",
            ) from error


def present(index: dict[str, Any]) -> set[str]:
    """The parts that a model_index.json names and that are there."""
    return {name for name, value in index.items() if isinstance(value, list) and value[0]}


def refuse(folder: Folder, index: dict[str, Any], takes: str) -> UsageError:
    """The error for a model of another family."""
    return UsageError(
        f"{folder.model}: a {index.get('_class_name', 'pipeline')} cannot be trained yet",
        f"this family takes {takes}; see `rpo list families`",
    )


def refuse_editor(folder: Folder, channels: int) -> UsageError:
    """The error for a denoiser that is fed a picture beside the noise."""
    return UsageError(
        f"{folder.model}: its denoiser takes {channels} channels, as an editor's does",
        "train the text-to-image model",
    )
