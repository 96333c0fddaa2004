"""Text encoders that are trained beside the denoiser: their adapters, and captions encoded in the loop.

The pipeline's own `encode_prompt` encodes here too, in float32 and with its adapters as they are: on for
the policy, off for the reference. So before the first step embeddings are those of generation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.train.families.contract import Family
from rpo_cli.train.families.folder import Condition, Encoders, Folder, quiet

# attention projections of CLIP, as the public diffusion LoRA scripts have it
TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
INNER = "text_model."  # of CLIP's modules, in every published LoRA; transformers 5 leaves it out


@dataclass(frozen=True)
class Texts:
    """What turns captions into conditions, with gradient.

    Attributes:
        names: of the pipeline's text encoders.
    """

    encoders: Encoders
    names: tuple[str, ...]

    @property
    def modules(self) -> dict[str, Any]:
        return {name: getattr(self.encoders.pipe, name) for name in self.names}

    def condition(self, captions: Sequence[str], width: int) -> Condition:
        """Of a batch whose K·B rows have K = `width` pictures an item, the best of every item first.

        A caption is encoded once for its item, whatever the others are, so that the shape of the encoders'
        batch is that of the step.
        """
        own = list(captions[: len(captions) // width])
        with quiet():
            found = self.encoders.embed(self.encoders.pipe, own)
        return {part: torch.cat([value] * width) for part, value in found.items()}


def require_texts(settings: TrainSettings, family: Family) -> None:
    """Refuse to train text encoders of a family whose conditions are not made that way.

    Raises:
        UsageError: it is such a family.
    """
    if settings.text_encoder and family.texts is None:
        raise UsageError(
            f"train.text_encoder: the text encoders of a {family.pipeline} are not trained",
            "leave out --text-encoder: adapters on the denoiser alone are what this family's trainers make",
        )


def load_texts(family: Family, settings: TrainSettings, device: str) -> Texts | None:
    """The text encoders of a training that has adapters on them too, frozen and in float32."""
    if not settings.text_encoder or family.texts is None:
        return None
    encoders = family.load_encoders(device)
    encoders.pipe.vae = None  # latents are in the cache
    return _frozen(Texts(encoders, family.texts.names))


def blank_texts(family: Family, settings: TrainSettings, folder: Folder) -> Texts | None:
    """The same on the meta device: shapes only, from configurations."""
    if not settings.text_encoder or family.texts is None:
        return None
    index, loader = folder.index(), getattr(diffusers, family.pipeline)
    parts: dict[str, Any] = dict.fromkeys(loader._get_signature_keys(loader)[0])
    for name in family.texts.names:
        tokenizer = name.replace("text_encoder", "tokenizer")
        parts[tokenizer] = folder.part(tokenizer, getattr(transformers, index[tokenizer][1]))
        kind = getattr(transformers, index[name][1])
        with torch.device("meta"):
            parts[name] = kind(folder.part(name, kind.config_class)).eval()
    with quiet():
        encoders = Encoders(loader(**parts), family.texts.embed, {}, 0)
    return _frozen(Texts(encoders, family.texts.names))


def parameter_name(encoder: str, name: str) -> str:
    """A weight of a text encoder, by one name whatever the version of transformers calls it."""
    return f"{encoder}.{INNER}{name.removeprefix(INNER)}"


def _frozen(texts: Texts) -> Texts:
    for module in texts.modules.values():
        assert isinstance(module, nn.Module)
        module.requires_grad_(False)
    return texts
