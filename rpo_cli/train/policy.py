"""What is trained and what it is compared with, its optimiser, and the packages that settings need."""

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import chain
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rpo_cli import installing
from rpo_cli.config import TrainSettings
from rpo_cli.errors import MissingDependency
from rpo_cli.records import row_seed
from rpo_cli.train.diffusion import seeded
from rpo_cli.train.texts import TARGETS, Texts, parameter_name

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
    """

    unet: Any
    reference: Callable[[], AbstractContextManager[nn.Module]]
    parameters: dict[str, nn.Parameter]
    autocast: Callable[[], AbstractContextManager[object]]
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
    unet.to(device, memory_format=torch.channels_last)
    reference = _frozen_copy(unet) if settings.full else _adapters_off(unet, settings, targets, seed, texts)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    if settings.compile:
        unet.compile()  # in place: names, adapters and their switch stay as they are
    parameters = {name: value for name, value in unet.named_parameters() if value.requires_grad}
    for encoder, module in (texts.modules if texts else {}).items():
        trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
        parameters |= {parameter_name(encoder, name): value for name, value in trained.items()}
    return Policy(unet, reference, parameters, _autocast(settings.dtype, device), texts)


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
    for layer in layers:
        layer.enable_adapters(on)


def _autocast(dtype: str, device: str) -> Callable[[], AbstractContextManager[object]]:
    kind = torch.device(device).type
    return lambda: torch.autocast(kind, DTYPES[dtype], enabled=dtype != "float32")


# of a parameter's state, by name: the step, AdamW's moments, Adafactor's sums of squares, 8-bit moments
# with their maps and the scales of their blocks
FLOATS = ("step", "exp_avg", "exp_avg_sq", "row_var", "col_var", "variance")
STATE = (*FLOATS, "state1", "state2", "qmap1", "qmap2", "absmax1", "absmax2")


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


def put_state(
    optimiser: torch.optim.Optimizer, parameter: nn.Parameter, state: Mapping[str, Tensor]
) -> None:
    """Give a weight its state back as it was; `load_state_dict` would make floats of 8-bit moments."""
    moved = {name: value.to(parameter.device) for name, value in state.items() if name != "step"}
    optimiser.state[parameter] = {**moved, "step": int(state["step"])}
