"""What a training needs before its first step: pairs, caches, draws."""

from math import prod

from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Observer
from rpo_cli.train.composition import composed, for_data, salesforce_beta
from rpo_cli.train.data.latents import Builder, Framing
from rpo_cli.train.data.pairs import TrainingPair
from rpo_cli.train.diffusion import NoiseSchedule, logit_normal, shifted
from rpo_cli.train.draws import DrawSettings
from rpo_cli.train.families.contract import Family
from rpo_cli.train.inputs import TrainInputs
from rpo_cli.train.job import Job
from rpo_cli.train.knowledge import embed, knowledge
from rpo_cli.train.objectives.objective import Objective
from rpo_cli.train.rankings import read_items
from rpo_cli.train.texts import require_texts


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
        settings, objective, family, schedule, cache, pairs, held_out, draws, inputs.device, known, beta
    )


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
