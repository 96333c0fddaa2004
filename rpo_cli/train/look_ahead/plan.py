"""`rpo train --dry-run`: what a training takes, from configurations alone. Loads and writes nothing.

FLOPs are of matrix products and convolutions (a multiply-add counts 2); bytes are what autograd keeps.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from rpo_cli.compute import known_peak
from rpo_cli.config import TrainSettings
from rpo_cli.train.composition import for_data, settled
from rpo_cli.train.data.pairs import training_rows
from rpo_cli.train.families.family import Family, Folder, open_family
from rpo_cli.train.job import Ideal
from rpo_cli.train.objectives.objective import Objective
from rpo_cli.train.policy import DTYPES, Policy, blank_texts, build_policy, require_texts, weight_dtype

Pass = Callable[[nn.Module], Tensor]
SINGLE = 4  # bytes of a float32


@dataclass(frozen=True)
class Flops:
    """Useful floating-point operations of one item, without what is computed again to save memory.

    A reference whose errors are kept counts nothing.
    """

    policy_forward: int
    policy_backward: int
    reference_forward: int

    @property
    def total(self) -> int:
        return self.policy_forward + self.policy_backward + self.reference_forward


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


def passes(
    settings: TrainSettings, policy: Policy, run: Pass, *, with_reference: bool
) -> tuple[Flops, int, int]:
    """(FLOPs, those that gradient checkpointing does twice, bytes kept for the backward pass)."""
    reference = 0
    if with_reference:
        with torch.no_grad(), policy.reference() as unet:
            reference = counted(lambda: run(unet))
    found: list[Tensor] = []
    forward = counted(lambda: found.append(run(policy.unet)))
    backward = counted(lambda: found.pop().sum().backward())
    again, checkpointing = 0, settings.gradient_checkpointing
    if checkpointing:
        policy.unet.enable_gradient_checkpointing()
        again = counted(lambda: run(policy.unet).sum().backward()) - forward - backward
    texts = [value for module in policy.encoders.values() for value in module.parameters()]
    kept = kept_bytes(policy.unet, lambda: run(policy.unet), checkpointing=checkpointing, others=texts)
    return Flops(forward, backward, reference), again, kept * DTYPES[settings.dtype].itemsize // SINGLE


def counted(work: Callable[[], object]) -> int:
    """FLOPs of the matrix products and convolutions in `work`, a multiply-add counted 2."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


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
    with saved_tensors_hooks(outside.add, _as_it_is):
        forward()
    return outside.bytes + largest


def _as_it_is(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class Memory:
    """Bytes on the device; an estimate, without kernels' workspaces and the allocator's waste.

    Attributes:
        averages: of `ema`, and of a reference that moves.
        activations: what a forward pass of `batch_size` items keeps for the backward one.
    """

    weights: int
    reference: int
    gradients: int
    optimiser: int
    averages: int
    activations: int

    @property
    def total(self) -> int:
        return sum(vars(self).values())


@dataclass(frozen=True)
class TrainPlan:
    """What `rpo train` would do.

    Attributes:
        pairs: rows of the training split; None: there is no dataset yet.
        global_batch: items per optimiser step, the effective batch; `batch_size` of them per forward pass.
        parameters, trained: numbers in the denoiser (and text encoders that train too); those that change.
        flops_per_pair: of an item, which is a list for methods that rank.
        recomputed_per_pair: FLOPs that are done twice to save memory; of use to nobody else.
        seconds_at_peak: what the training takes at least, on the devices of its processes at their peak;
            None: no peak is known.
    """

    method: str
    model: str
    pairs: int | None
    steps: int
    global_batch: int
    batch_size: int
    passes_per_step: int
    parameters: int
    trained: int
    flops: Flops
    flops_per_pair: int
    flops_of_training: int
    memory: Memory
    memory_total: int
    recomputed_per_pair: int = 0
    seconds_at_peak: float | None = None


def plan(
    settings: TrainSettings, *, dataset: Path, model: str, revision: str | None, device: str = "cpu"
) -> TrainPlan:
    """Plan a training.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: the model is of no family that can be trained.
    """
    settings, objective = settled(settings)
    objective = for_data(objective, settings, dataset)
    family = open_family(model, revision)
    family.check()
    require_texts(settings, family)
    policy = blank_policy(settings, family, Folder(model, revision))
    flops, again, kept = measured(settings, objective, family, policy)
    size = min(settings.batch_size, settings.global_batch)
    peak, items = known_peak(device, settings.dtype), settings.global_batch * settings.steps
    everything = sum(value.numel() for module in policy.modules for value in module.parameters())
    trained = sum(value.numel() for value in policy.parameters.values())
    averages = (settings.ema is not None) + (objective.reference_every is not None)
    memory = memory_of(settings, policy, averages, kept * size)
    return TrainPlan(
        method=objective.name,
        model=model,
        pairs=training_rows(dataset),
        steps=settings.steps,
        global_batch=settings.global_batch,
        batch_size=size,
        passes_per_step=ceil(settings.global_batch / size),
        parameters=everything,
        trained=trained,
        flops=flops,
        flops_per_pair=flops.total,
        flops_of_training=flops.total * items,
        memory=memory,
        memory_total=memory.total,
        recomputed_per_pair=again,
        seconds_at_peak=(flops.total + again) * items / peak / settings.processes if peak else None,
    )


def ideal_seconds(
    settings: TrainSettings, objective: Objective, family: Family, folder: Folder, peak: float
) -> Ideal:
    """At `peak` FLOP/s, see `compute.known_peak`."""
    flops, again, _ = measured(settings, objective, family, blank_policy(settings, family, folder))
    return Ideal(flops.total / peak, (flops.total + again) / peak)


def measured(
    settings: TrainSettings, objective: Objective, family: Family, policy: Policy
) -> tuple[Flops, int, int]:
    """(FLOPs of one item, those done twice, bytes that its forward pass keeps for the backward one)."""
    said = blank_pass(settings, family, policy, objective.list_size)
    with_reference = objective.needs_reference and not settings.reference_draws
    found, again, kept = passes(settings, policy, said, with_reference=with_reference)
    twice = objective.group_size > settings.batch_size  # see `step.backward`
    return found, again + (found.policy_forward if twice else 0), kept


def memory_of(settings: TrainSettings, policy: Policy, averages: int, activations: int) -> Memory:
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
        activations=activations,
    )


def _state(shape: tuple[int, ...], optimiser: str) -> int:
    """Numbers that the optimiser keeps of a weight: two moments, or row and column sums."""
    count = prod(shape)
    if optimiser == "adamw":
        return 2 * count
    if optimiser == "adamw-8bit":
        return count // 2  # two bytes a weight; the scales of blocks are below one in a hundred
    return count // shape[-1] + count // shape[-2] if len(shape) > 1 else count
