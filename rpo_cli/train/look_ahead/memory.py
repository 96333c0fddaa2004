"""What a training keeps in memory, from configurations alone, and how large its passes may be therefore.

Nothing is loaded: the denoiser runs once on torch's meta device, and autograd tells what it would keep.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import diffusers
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from rpo_cli.compute import free_memory, launched
from rpo_cli.config import TrainSettings
from rpo_cli.train.families.family import Family, Folder
from rpo_cli.train.objectives.objective import Objective
from rpo_cli.train.policy import DTYPES, Policy, blank_texts, build_policy, weight_dtype

Pass = Callable[[nn.Module], Tensor]
SINGLE = 4  # bytes of a float32
# of activations on a CPU, where freed blocks lie between kept ones; measured on SD 1.5 at 256 pixels
WASTE = 1.4
LIBRARIES = 550_000_000  # bytes: torch, diffusers and transformers, loaded
ROOM = 0.9  # share of the free memory that is planned with


def blank_policy(settings: TrainSettings, family: Family, folder: Folder) -> Policy:
    """The policy that a training would have, without memory."""
    loader = getattr(diffusers, family.denoiser)
    config = folder.config(family.component, loader)
    with torch.device("meta"):
        denoiser = loader.from_config(config).eval()
    plain = settings.model_copy(update={"compile": False, "gradient_checkpointing": False})
    texts = blank_texts(family, settings, folder)
    return build_policy(denoiser, plain, family.lora_targets, 0, "meta", texts)


def blank_pass(settings: TrainSettings, family: Family, policy: Policy, count: int) -> Pass:
    """What a denoiser says to `count` pictures, on the meta device."""
    (channels, side, _), own = family.latent_size()
    side = side * (settings.resolution or own) // own
    noisy = torch.zeros(count, channels, side, side, device="meta")
    times = torch.zeros(count, device="meta")
    given = family.blank_condition(count)

    def prediction(unet: nn.Module) -> Tensor:
        condition = given | (policy.texts.condition([""] * count, count) if policy.texts else {})
        return family.predict(unet, noisy, times, condition)

    return prediction


class FusedAttention(TorchFunctionMode):
    """Attention as devices compute it: its weights, tokens by tokens, are made anew and not kept."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **named)
        given = [*args, *(named[name] for name in ("query", "key", "value") if name in named)]
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*given[:3])[0]


class Kept:
    """Bytes of the storages that autograd keeps, each once; weights lie there anyway."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._weights = {weight.untyped_storage()._cdata for weight in weights}
        self._storages: dict[int, torch.UntypedStorage] = {}

    def add(self, value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in self._weights:
            self._storages[storage._cdata] = storage  # held, so that its address is not used again
        return value

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self._storages.values())


def kept_bytes(
    unet: Any, forward: Callable[[], object], *, checkpointing: bool, others: Iterable[Tensor] = ()
) -> int:
    """What autograd keeps of a pass; with checkpointing the blocks' inputs and the largest block."""
    weights = [*unet.parameters(), *others]
    outside, largest = Kept(weights), 0

    def block(work: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
        nonlocal largest
        for value in (*inputs, *named.values()):
            for tensor in value if isinstance(value, tuple) else (value,):
                if isinstance(tensor, Tensor):
                    outside.add(tensor)
        inside = Kept(weights)
        with saved_tensors_hooks(inside.add, _as_it_is):
            result = work(*inputs, **named)
        largest = max(largest, inside.bytes)
        return result

    if checkpointing:
        unet.enable_gradient_checkpointing(block)
    with FusedAttention(), saved_tensors_hooks(outside.add, _as_it_is):
        forward()
    return outside.bytes + largest


def kept_of_item(settings: TrainSettings, policy: Policy, run: Pass) -> int:
    """Bytes that a pass keeps for the backward one, in the number format of the settings.

    Checkpointing stays on in the policy where the settings ask for it.
    """
    checkpointing = settings.gradient_checkpointing
    texts = [value for module in policy.encoders.values() for value in module.parameters()]
    kept = kept_bytes(policy.unet, lambda: run(policy.unet), checkpointing=checkpointing, others=texts)
    return kept * DTYPES[settings.dtype].itemsize // SINGLE


def _as_it_is(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class Memory:
    """Bytes on the device; an estimate, without kernels' workspaces.

    Attributes:
        averages: of `ema`, and of a reference that moves.
        activations: what a forward pass keeps for the backward one; on a CPU with what the C library's
            allocator wastes.
        libraries: on a CPU, what the process takes before it has a model.
    """

    weights: int
    reference: int
    gradients: int
    optimiser: int
    averages: int
    activations: int
    libraries: int = 0

    @property
    def total(self) -> int:
        return sum(vars(self).values())


def memory_of(
    settings: TrainSettings, policy: Policy, averages: int, activations: int, device: str
) -> Memory:
    """Of a training that keeps so many averages of the trained weights."""
    shapes = [tuple(value.shape) for value in policy.parameters.values()]
    trained = sum(map(prod, shapes))
    frozen = sum(value.numel() for module in policy.modules for value in module.parameters()) - trained
    texts = [value for module in policy.encoders.values() for value in module.parameters()]
    single = sum(value.numel() for value in texts if not value.requires_grad)
    return Memory(
        weights=(trained + single) * SINGLE + (frozen - single) * weight_dtype(settings).itemsize,
        reference=trained * SINGLE if settings.full else 0,
        gradients=trained * SINGLE,
        optimiser=SINGLE * sum(_state(shape, settings.optimiser) for shape in shapes),
        averages=averages * trained * SINGLE,
        activations=int(activations * WASTE) if device == "cpu" else activations,
        libraries=LIBRARIES if device == "cpu" else 0,
    )


def _state(shape: tuple[int, ...], optimiser: str) -> int:
    """Numbers that the optimiser keeps of a weight: two moments, or row and column sums."""
    count = prod(shape)
    if optimiser == "adamw":
        return 2 * count
    if optimiser == "adamw-8bit":
        return count // 2  # two bytes a weight; the scales of blocks are below one in a hundred
    return count // shape[-1] + count // shape[-2] if len(shape) > 1 else count


@dataclass(frozen=True)
class Fit:
    """How a training is cut to the memory of its device.

    Attributes:
        batch_size: items of a forward pass: what is set, or the largest half, quarter, ... that fits.
        checkpointing: that of the settings, or on because not even one item fits without it.
        memory: what that takes.
        whole: bytes that the settings would take.
        free: bytes on the device for each process; None where that is not known and nothing is cut.
    """

    batch_size: int
    checkpointing: bool
    memory: Memory
    whole: int
    free: int | None

    @property
    def settings(self) -> dict[str, int | bool]:
        """What it changes of `[train]`."""
        return {"batch_size": self.batch_size, "gradient_checkpointing": self.checkpointing}

    @property
    def fits(self) -> bool:
        return self.free is None or self.memory.total <= ROOM * self.free

    def notes(self, largest: int, checkpointing: bool) -> Iterator[str]:
        """What a user should know where settings were not taken as they are."""
        if self.free is None:
            return
        free = f"{self.free / 1e9:.1f} GB is free"
        if self.batch_size < largest or self.checkpointing > checkpointing:
            more = ", and gradient checkpointing" if self.checkpointing > checkpointing else ""
            yield (
                f"{self.batch_size} a forward pass instead of {largest}{more}: as set it takes some "
                f"{self.whole / 1e9:.1f} GB, and {free}"
            )
        if not self.fits:
            yield (
                "not even one a forward pass is sure to fit: it takes some "
                f"{self.memory.total / 1e9:.1f} GB, and {free}; "
                "--dtype bfloat16 or a lower train.resolution take less"
            )


def fit(settings: TrainSettings, objective: Objective, family: Family, folder: Folder, device: str) -> Fit:
    """The largest passes that fit into the device's free memory, by plan and not by trial.

    On a CPU too large a pass ends the process, and nothing can be caught.
    """
    free = free_memory(device)
    if free is not None and device == "cpu":
        free //= max(settings.processes, launched().size)
    largest = min(settings.batch_size, settings.global_batch)
    averages = (settings.ema is not None) + (objective.reference_every is not None)
    whole = 0
    for checkpointing in sorted({settings.gradient_checkpointing, True}):
        own = settings.model_copy(update={"gradient_checkpointing": checkpointing})
        policy = blank_policy(own, family, folder)
        item = kept_of_item(own, policy, blank_pass(own, family, policy, objective.list_size))
        for size in (largest >> halvings for halvings in range(largest.bit_length())):
            memory = memory_of(own, policy, averages, item * size, device)
            whole = whole or memory.total
            found = Fit(size, checkpointing, memory, whole, free)
            if found.fits:
                return found
    return found
