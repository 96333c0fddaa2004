"""What is trained and what it is compared with: denoiser and text encoders, and their running averages.

The pipeline's own `encode_prompt` encodes here too, in float32 and with its adapters as they are: on for
the policy, off for the reference. So before the first step embeddings are those of generation.

Source of the averages' warm-up: diffusers.training_utils.EMAModel.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import chain
from typing import Any

import diffusers
import torch
import transformers
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rpo_cli import installing
from rpo_cli.compute import fastest_layout
from rpo_cli.config import TrainSettings
from rpo_cli.errors import MissingDependency, UsageError
from rpo_cli.records import row_seed
from rpo_cli.train.families.family import Condition, Encoders, Family, Folder, quiet
from rpo_cli.train.noise import seeded

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


EIGHT_BIT = "bitsandbytes"


def require_packages(settings: TrainSettings) -> None:
    """Refuse settings whose packages are not there; imports none.

    Raises:
        MissingDependency: all that are missing.
    """
    wanted: dict[str, str] = {
        name: f"train.loggers = {name}" for name in settings.loggers
    }  # a logger is its package
    if settings.optimiser == "adamw-8bit":
        wanted[EIGHT_BIT] = "train.optimiser = adamw-8bit"
    missing = [name for name in wanted if find_spec(name) is None]
    if missing:
        why = "; ".join(f"{wanted[name]} needs {name}" for name in missing)
        raise MissingDependency(f"not installed: {why}", installing.package(*missing))


DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Policy:
    """A denoiser under training.

    Attributes:
        reference: a context in which the reference can be called.
        parameters: what the optimiser changes, by name, in float32.
        autocast: the context of every forward pass.
        texts: text encoders that are trained too; None: conditions come from the cache.
        layout: of the denoiser's weights, and so of what it is given.
    """

    unet: Any
    reference: Callable[[], AbstractContextManager[nn.Module]]
    parameters: dict[str, nn.Parameter]
    autocast: Callable[[], AbstractContextManager[object]]
    layout: torch.memory_format
    texts: Texts | None = None

    @property
    def encoders(self) -> dict[str, Any]:
        """The text encoders that carry an adapter, by their names in the pipeline."""
        return self.texts.modules if self.texts else {}

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Everything that an item goes through."""
        return self.unet, *self.encoders.values()


def build_policy(
    unet: Any,
    settings: TrainSettings,
    targets: tuple[str, ...],
    seed: int,
    device: str,
    texts: Texts | None = None,
) -> Policy:
    """Prepare a UNet that was loaded in `weight_dtype`. It starts equal to its reference."""
    unet.requires_grad_(settings.full)
    layout = fastest_layout(unet, device)
    unet.to(device, memory_format=layout)
    reference = _frozen_copy(unet) if settings.full else _adapters_off(unet, settings, targets, seed, texts)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    if settings.compile:  # in place: names, adapters and their switch stay as they are
        unet.compile()
        with reference() as frozen:
            if frozen is not unet:
                frozen.compile()
    parameters = {name: value for name, value in unet.named_parameters() if value.requires_grad}
    for encoder, module in (texts.modules if texts else {}).items():
        trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
        parameters |= {parameter_name(encoder, name): value for name, value in trained.items()}
    return Policy(unet, reference, parameters, _autocast(settings.dtype, device), layout, texts)


def weight_dtype(settings: TrainSettings) -> torch.dtype:
    """Of the base weights: what is trained stays in float32, what is frozen needs no more than `dtype`."""
    return torch.float32 if settings.full else DTYPES[settings.dtype]


def _frozen_copy(unet: Any) -> Callable[[], AbstractContextManager[nn.Module]]:
    frozen = deepcopy(unet).requires_grad_(False).eval()
    return lambda: nullcontext(frozen)


def _adapters_off(
    unet: Any, settings: TrainSettings, targets: tuple[str, ...], seed: int, texts: Texts | None
) -> Callable[[], AbstractContextManager[nn.Module]]:
    encoders = texts.modules if texts else {}
    _adapt(unet, targets, settings.rank, seed, str)
    for encoder, module in encoders.items():
        _adapt(module, TARGETS, settings.rank, seed, partial(parameter_name, encoder))
    everything = chain.from_iterable(module.modules() for module in (unet, *encoders.values()))
    layers = [layer for layer in everything if isinstance(layer, BaseTunerLayer)]

    @contextmanager
    def reference() -> Iterator[nn.Module]:
        _switch(layers, on=False)
        try:
            yield unet
        finally:
            _switch(layers, on=True)

    return reference


def _adapt(
    module: Any, targets: tuple[str, ...], rank: int, seed: int, named: Callable[[str], str]
) -> None:
    """Give the module's layers an adapter that adds nothing; `named` makes a name one of the policy's."""
    module.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets)))
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # small steps are lost in half precision
            _initialise(named(name), parameter, rank, seed)


def _initialise(name: str, parameter: nn.Parameter, rank: int, seed: int) -> None:
    """A ~ N(0, 1/rank²) from the seed and the layer's name; B = 0, so the adapter starts as nothing."""
    if "lora_A" in name:
        draw = torch.randn(parameter.shape, generator=seeded(row_seed(seed, "lora", name))) / rank
        parameter.data.copy_(draw)
    else:
        parameter.data.zero_()


def _switch(layers: list[BaseTunerLayer], *, on: bool) -> None:
    """peft's own `enable_adapters` also walks every weight to switch its gradient, twice a step."""
    for layer in layers:
        layer._disable_adapters = not on


def _autocast(dtype: str, device: str) -> Callable[[], AbstractContextManager[object]]:
    kind = torch.device(device).type
    return lambda: torch.autocast(kind, DTYPES[dtype], enabled=dtype != "float32")


def make_optimiser(parameters: Iterable[nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    """Over `parameters`, in their order; the rate is set anew before every step."""
    rate, decay = settings.learning_rate, settings.weight_decay
    assert rate is not None  # settled
    if settings.optimiser == "adafactor":
        return torch.optim.Adafactor(parameters, lr=rate, weight_decay=decay)
    if settings.optimiser == "adamw-8bit":
        eight_bit = importlib.import_module(EIGHT_BIT)
        found: torch.optim.Optimizer = eight_bit.optim.AdamW8bit(parameters, lr=rate, weight_decay=decay)
        return found
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)


class Average:
    """a ← d a + (1 − d) w after every step, d = min(decay, (1 + step) / (10 + step)).

    Attributes:
        values: the averages by name, float32, each laid out like its weight.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters = parameters
        self._decay = decay
        self.values: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in parameters.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimiser step `step` (from 1)."""
        self.move(min(self._decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def move(self, keep: float) -> None:
        """a ← keep·a + (1 − keep)·w, without the warm-up of `update`."""
        for name, parameter in self._parameters.items():
            self.values[name].lerp_(parameter, 1 - keep)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averages in the place of the weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            parameter.data, self.values[name] = self.values[name], parameter.data


def beside(policy: Policy, anchor: Average) -> Policy:
    """The policy with the averaged weights as its reference."""

    @contextmanager
    def reference() -> Iterator[nn.Module]:
        with anchor.applied():
            yield policy.unet

    return replace(policy, reference=reference)
