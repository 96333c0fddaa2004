"""`rpo train --dry-run` of a method that samples: what its rounds take, from configurations alone."""

from dataclasses import dataclass
from math import ceil

from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.train.families import open_family
from rpo_cli.train.families.folder import Folder
from rpo_cli.train.look_ahead.flops import blank_pass, blank_policy, passes
from rpo_cli.train.look_ahead.plan import Memory, known_peak, memory_of
from rpo_cli.train.online.compose import settled_online
from rpo_cli.train.online.sampling import (
    drawn_in_round,
    grid_of,
    latent_shape,
    require_family,
    rows_of_pass,
)


@dataclass(frozen=True)
class DrawFlops:
    """Useful floating-point operations of one picture; VAE, text encoder and rewards come on top.

    Attributes:
        drawing: of the policy, both branches of guidance, at every denoising step.
        reference: at the same latents.
        learning: of one use, at the steps that teach.
    """

    drawing: int
    reference: int
    learning: int


@dataclass(frozen=True)
class OnlinePlan:
    """What `rpo train` would do; pictures, steps and FLOPs of learning are the most there can be.

    Attributes:
        prompts: of the training split.
        pictures: drawn in all. `scored`: those that every reward sees, promised ones too.
        updates: optimiser steps in all; fewer where pairs lie inside the noise.
        batch_size: pictures of a forward pass.
        seconds_at_peak: of drawing and learning at least; None: no peak is known.
    """

    method: str
    model: str
    prompts: int
    rounds: int
    pictures_per_round: int
    pictures: int
    scored: int
    denoising_steps: int
    taught_steps: int
    uses: int
    updates: int
    batch_size: int
    parameters: int
    trained: int
    flops_per_picture: DrawFlops
    flops_of_training: int
    memory: Memory
    memory_total: int
    recomputed_per_picture: int = 0
    seconds_at_peak: float | None = None


def taught_of(online: OnlineSettings, random: int) -> int:
    """Steps of a trajectory that are learned from: all `random` ones that add noise, or fewer if asked."""
    return min(online.taught_steps or random, random)


def plan_online(
    settings: TrainSettings,
    online: OnlineSettings,
    *,
    prompts: int,
    model: str,
    revision: str | None,
    device: str = "cpu",
) -> OnlinePlan:
    """Plan a training on `prompts` prompts; loads no weights, writes nothing.

    Args:
        online: with `steps` and `guidance` given.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: a model that cannot be sampled so.
    """
    settings, online, objective = settled_online(settings, online)
    family = open_family(model, revision)
    require_family(family, objective)
    latent_shape(family, settings.resolution)  # refuses a resolution that the model has not
    taught = taught_of(online, len(grid_of(model, revision, online).random_steps))
    steps, rounds = online.steps or 0, settings.rounds or 0
    drawn = drawn_in_round(online, prompts)
    items = min(online.prompts_per_round, prompts) if objective.paired else drawn
    rows = rows_of_pass(settings, objective, drawn)
    policy = blank_policy(settings, family, Folder(model, revision))
    said = blank_pass(settings, family, policy, 2 if (online.guidance or 0) > 1 else 1)
    once, again, kept = passes(settings, policy, said, with_reference=objective.needs_reference)
    # a pair whose steps are summed inside its link runs each once more, see `teach.Chunk.backward`
    again = taught * (again + (once.policy_forward if objective.form == "pair" else 0))
    learning = taught * (once.policy_forward + once.policy_backward)
    flops = DrawFlops(steps * once.policy_forward, steps * once.reference_forward, learning)
    learned, pictures = rounds * online.inner_epochs * items * objective.width, rounds * drawn
    useful = pictures * (flops.drawing + flops.reference) + learned * flops.learning
    peak = known_peak(device, settings.dtype)
    memory = memory_of(settings, policy, int(settings.ema is not None), kept * rows)
    return OnlinePlan(
        method=objective.name,
        model=model,
        prompts=prompts,
        rounds=rounds,
        pictures_per_round=drawn,
        pictures=pictures,
        scored=pictures * (1 + (steps if objective.values else 0)),
        denoising_steps=steps,
        taught_steps=taught,
        uses=online.inner_epochs,
        updates=rounds * online.inner_epochs * ceil(items / settings.global_batch),
        batch_size=rows,
        parameters=sum(value.numel() for value in policy.unet.parameters()),
        trained=sum(value.numel() for value in policy.parameters.values()),
        flops_per_picture=flops,
        flops_of_training=useful,
        memory=memory,
        memory_total=memory.total,
        recomputed_per_picture=again,
        seconds_at_peak=(useful + learned * again) / peak if peak else None,
    )
