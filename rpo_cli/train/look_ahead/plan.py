"""`rpo train --dry-run`: what a training takes, from configurations alone. Loads and writes nothing.

FLOPs are of matrix products and convolutions (a multiply-add counts 2).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rpo_cli.compute import known_peak
from rpo_cli.config import TrainSettings
from rpo_cli.train.composition import for_data, settled
from rpo_cli.train.data.pairs import rows_of_split
from rpo_cli.train.families.family import Family, Folder, open_family
from rpo_cli.train.job import DRAWS, Ideal, validation_draws, validations
from rpo_cli.train.look_ahead.memory import Memory, Pass, blank_pass, blank_policy, fit
from rpo_cli.train.objectives.objective import Objective
from rpo_cli.train.policy import Policy, require_texts


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


def passes(
    settings: TrainSettings, policy: Policy, run: Pass, *, with_reference: bool
) -> tuple[Flops, int]:
    """(FLOPs, those that gradient checkpointing does twice)."""
    reference = 0
    if with_reference:
        with torch.no_grad(), policy.reference() as unet:
            reference = counted(lambda: run(unet))
    found: list[Tensor] = []
    forward = counted(lambda: found.append(run(policy.unet)))
    backward = counted(lambda: found.pop().sum().backward())
    again = 0
    if settings.gradient_checkpointing:
        policy.unet.enable_gradient_checkpointing()
        again = counted(lambda: run(policy.unet).sum().backward()) - forward - backward
    return Flops(forward, backward, reference), again


def counted(work: Callable[[], object]) -> int:
    """FLOPs of the matrix products and convolutions in `work`, a multiply-add counted 2."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


@dataclass(frozen=True)
class TrainPlan:
    """What `rpo train` would do.

    Attributes:
        pairs: rows of the training split; None: there is no dataset yet.
        global_batch: items per optimiser step, the effective batch; `batch_size` of them per forward pass.
        parameters, trained: numbers in the denoiser (and text encoders that train too); those that change.
        flops_per_pair: of an item, which is a list for methods that rank.
        flops_of_validation: of all looks at what is held out; a part of `flops_of_training`.
        batch_size, checkpointing: as the device's free memory allows, see `memory.fit`.
        notes: where that is not what is set.
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
    flops_of_validation: int
    flops_of_training: int
    memory: Memory
    memory_total: int
    recomputed_per_pair: int = 0
    checkpointing: bool = False
    notes: tuple[str, ...] = ()
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
    folder = Folder(model, revision)
    cut = fit(settings, objective, family, folder, device)
    notes = cut.notes(min(settings.batch_size, settings.global_batch), settings.gradient_checkpointing)
    settings = settings.model_copy(update=cut.settings)
    policy = blank_policy(settings, family, folder)
    flops, again = measured(settings, objective, family, policy)
    peak, items = known_peak(device, settings.dtype), settings.global_batch * settings.steps
    everything = sum(value.numel() for module in policy.modules for value in module.parameters())
    looking = validation_flops(settings, objective, flops, rows_of_split(dataset, "validation"))
    useful = flops.total * items + looking
    return TrainPlan(
        method=objective.name,
        model=model,
        pairs=rows_of_split(dataset, "train"),
        steps=settings.steps,
        global_batch=settings.global_batch,
        batch_size=cut.batch_size,
        passes_per_step=ceil(settings.global_batch / cut.batch_size),
        parameters=everything,
        trained=sum(value.numel() for value in policy.parameters.values()),
        flops=flops,
        flops_per_pair=flops.total,
        flops_of_validation=looking,
        flops_of_training=useful,
        memory=cut.memory,
        memory_total=cut.memory.total,
        recomputed_per_pair=again,
        checkpointing=cut.checkpointing,
        notes=tuple(notes),
        seconds_at_peak=(useful + again * items) / peak / settings.processes if peak else None,
    )


def validation_flops(
    settings: TrainSettings, objective: Objective, flops: Flops, held_out: int | None
) -> int:
    """Of the reference's errors and of every validation; a split that is not there yet counts as large."""
    draws = validation_draws(settings, objective, DRAWS if held_out is None else held_out)
    return draws * (1 + validations(settings) * (1 + objective.needs_cross)) * flops.policy_forward


def ideal_seconds(
    settings: TrainSettings, objective: Objective, family: Family, folder: Folder, peak: float
) -> Ideal:
    """At `peak` FLOP/s, see `compute.known_peak`."""
    flops, again = measured(settings, objective, family, blank_policy(settings, family, folder))
    return Ideal(flops.total / peak, (flops.total + again) / peak)


def measured(
    settings: TrainSettings, objective: Objective, family: Family, policy: Policy
) -> tuple[Flops, int]:
    """(FLOPs of one item, those done twice)."""
    said = blank_pass(settings, family, policy, objective.list_size)
    with_reference = objective.needs_reference and not settings.reference_draws
    found, again = passes(settings, policy, said, with_reference=with_reference)
    twice = objective.group_size > settings.batch_size  # see `step.backward`
    return found, again + (found.policy_forward if twice else 0)
