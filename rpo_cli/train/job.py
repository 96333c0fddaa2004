"""A training while it runs: what it reads and changes, its reference's errors; and how it is prepared."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

import torch
from torch import Tensor

from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Observer
from rpo_cli.train.composition import TrainInputs, composed, for_data, salesforce_beta
from rpo_cli.train.data.latents import Builder, Cache, Framing
from rpo_cli.train.data.pairs import Item, TrainingPair, read_items
from rpo_cli.train.families.family import Family
from rpo_cli.train.knowledge import Knowledge, embed, knowledge
from rpo_cli.train.noise import Draw, DrawSettings, NoiseSchedule, logit_normal, shifted
from rpo_cli.train.objectives.objective import Objective
from rpo_cli.train.policy import Average, Policy, beside, require_texts
from rpo_cli.train.processes import ALONE, World
from rpo_cli.train.storage import Shelf

DRAWS = 128  # of a validation at most
DRAWS_A_PAIR = 16  # from here on pairs differ among each other more than a pair's draws do
VALIDATION_SHARE = 0.05  # of a training's denoiser work


@dataclass(frozen=True)
class References:
    """Kept errors, (uses, pictures of an item, items) float32; the best picture's first."""

    values: Tensor

    def of(self, draws: Sequence[Draw], device: str) -> Tensor:
        """Errors of drawn items, (K·B,) as in `objective.Errors`."""
        uses = torch.tensor([draw.use for draw in draws])
        items = torch.tensor([draw.pair for draw in draws])
        return self.values[uses, :, items].T.reshape(-1).to(device)


@dataclass(frozen=True)
class Ideal:
    """Seconds that an item takes at the device's peak: its useful FLOPs, and all that are done."""

    useful: float
    hardware: float


@dataclass(frozen=True)
class Job:
    """Everything a step reads and never changes.

    Attributes:
        beta: in the objective's own unit.
        batch_size: items of a forward pass, as long as memory does not run out.
        starts_equal: whether the policy's first weights are its reference's.
        ideal: what an item takes at the device's peak; None where none is known.
    """

    settings: TrainSettings
    objective: Objective
    family: Family
    schedule: NoiseSchedule
    cache: Cache
    pairs: Sequence[Item]
    held_out: Sequence[Item]
    draws: DrawSettings
    device: str
    knowledge: Knowledge
    beta: float
    batch_size: int
    ideal: Ideal | None = None
    references: References | None = None  # of a training with fixed draws
    world: World = ALONE
    starts_equal: bool = True
    looks: int = 0  # draws of a validation
    held_out_kept: Shelf | None = None  # the model's errors on them, where the policy starts as it


@dataclass
class State:
    """What a step changes.

    Attributes:
        batch_size: shrinks when memory runs out; it is no part of the result.
        skipped: batches in a row, up to now, that were left out; 0 at a checkpoint.
    """

    policy: Policy
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    batch_size: int
    step: int = 0
    average: Average | None = None
    anchor: Average | None = None  # a reference that moves
    skipped: int = 0

    @property
    def compared(self) -> Policy:
        """The policy beside the reference that the loss is relative to."""
        return self.policy if self.anchor is None else beside(self.policy, self.anchor)


def prepare(inputs: TrainInputs, family: Family, observer: Observer) -> Job:
    """Read the pairs and fill the cache.

    Raises:
        UsageError: the training split is empty, or the family's text encoders are not trained.
    """
    settings = inputs.settings
    require_texts(settings, family)
    objective = for_data(composed(settings), settings, inputs.dataset)
    pairs, held_out = (read_items(inputs.dataset, split, objective) for split in ("train", "validation"))
    if not pairs:
        raise UsageError(
            f"{inputs.dataset}: the training split is empty", "loosen the gates of `rpo build-pairs`"
        )
    if not held_out:
        observer.note("no validation pairs: nothing is held out, so nothing can be said about overfitting")
    framing = Framing(settings.resolution, settings.buckets, settings.size_condition)
    builder = Builder(inputs.cache, family, inputs.model_identity, inputs.device, observer, framing)
    cache = builder.build(
        inputs.dataset,
        [*pairs, *held_out],
        flip=bool(settings.flip),
        drop_captions=bool(settings.caption_dropout),
        captions=not settings.text_encoder,
    )
    schedule = schedule_of(family, settings)
    draws = draw_settings(inputs, objective, len(pairs), schedule.steps, cache.envelope)
    embeddings = None
    if objective.needs_embedder and inputs.embedder is not None:
        everything = [item for item in (*pairs, *held_out) if isinstance(item, TrainingPair)]
        embeddings = embed(
            inputs.cache, inputs.embedder, inputs.dataset, everything, inputs.device, observer
        )
    known = knowledge(objective, schedule, pairs, embeddings)
    beta = salesforce_beta(settings.beta or 0.0, settings.beta_from, prod(cache.shape))
    return Job(
        *(settings, objective, family, schedule, cache, pairs, held_out, draws, inputs.device, known, beta),
        batch_size=min(settings.batch_size, settings.global_batch),
        looks=validation_draws(settings, objective, len(held_out)),
    )


def validations(settings: TrainSettings) -> int:
    """Times that a training looks at what is held out, after the start."""
    return ceil(settings.steps / settings.validate_every)


def work_of(settings: TrainSettings, objective: Objective) -> int:
    """Forward passes of an item that the steps are worth: a backward pass is one of a LoRA, two in full."""
    with_reference = objective.needs_reference and not settings.reference_draws
    each = (3 if settings.full else 2) + with_reference
    return settings.steps * settings.global_batch * each


def validation_draws(settings: TrainSettings, objective: Objective, held_out: int) -> int:
    """Draws of a validation, in whole groups; small splits are drawn several times, large ones in part.

    All validations and the reference's errors take at most `VALIDATION_SHARE` of the work: none at all
    where one group would take more, unless the settings name a number.
    """
    if not held_out:
        return 0
    group = objective.group_size
    if settings.validation_draws:
        return max(1, settings.validation_draws // group) * group
    cost = 1 + validations(settings) * (1 + objective.needs_cross)
    most = int(VALIDATION_SHARE * work_of(settings, objective) / cost)
    return min(DRAWS, DRAWS_A_PAIR * held_out, most) // group * group


def schedule_of(family: Family, settings: TrainSettings) -> NoiseSchedule:
    """The family's noise levels, as densely as the settings draw them.

    Raises:
        UsageError: a logit-normal density for a model that is no flow, or a shift that it does not have.
    """
    schedule = family.schedule
    if settings.timestep_shift == "size":
        factor = family.size_shift(settings.resolution or family.latent_size()[1])
        if factor is None:
            raise UsageError(
                f"train.timestep_shift = size: this {family.pipeline} is sampled alike at every size",
                "leave it out: the scheduler's own shift is there anyway",
            )
        schedule = shifted(schedule, factor)
    flow = schedule.prediction_type == "flow"
    density = settings.timestep_density or ("logit-normal" if flow else "uniform")
    if density == "uniform":
        return schedule
    if not flow:
        raise UsageError(
            f"train.timestep_density = logit-normal: a {family.pipeline} is no flow model",
            "leave it out, or weigh timesteps with train.timestep_weight",
        )
    return logit_normal(schedule)


def draw_settings(
    inputs: TrainInputs, objective: Objective, items: int, timesteps: int, shape: tuple[int, int, int]
) -> DrawSettings:
    """What the training draws depend on.

    Raises:
        UsageError: the band of timesteps is not the model's.
    """
    first = objective.min_timestep
    last = timesteps - 1 if objective.max_timestep is None else objective.max_timestep
    if objective.clip:  # the likelihood ratio of a denoising step is not defined at the ends
        first, last = max(first, 1), min(last, timesteps - 2)
    if not 0 <= first <= last < timesteps:
        raise UsageError(
            f"timesteps {first} to {last}: the model has 0 to {timesteps - 1}",
            "choose train.min_timestep and train.max_timestep within them",
        )
    return DrawSettings(
        seed=inputs.seed,
        pairs=items,
        timesteps=timesteps,
        shape=shape,
        flip=bool(inputs.settings.flip),
        caption_dropout=inputs.settings.caption_dropout or 0.0,
        first=first,
        last=last,
        discount=objective.timestep_discount,
        group=objective.group_size,
        shared=objective.shared,
        uses=inputs.settings.reference_draws or 0,
    )
