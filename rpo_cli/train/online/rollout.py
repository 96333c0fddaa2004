"""One round's pictures: which prompts, what a policy can be sampled with, trajectories and rewards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from PIL.Image import Image as Picture
from torch import Tensor

from rpo_cli.compute import run_halving
from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.protocols import Observer, Reward
from rpo_cli.records import row_seed
from rpo_cli.train.composition import Prompts
from rpo_cli.train.data.latents import Frame, pictures_at_once, texts_at_once
from rpo_cli.train.families.family import Condition, Encoders, Family, Folder
from rpo_cli.train.noise import epoch_order
from rpo_cli.train.objectives.online import OnlineObjective
from rpo_cli.train.online.credit import Floats
from rpo_cli.train.online.trajectory import Grid, Sampler, Trajectories, sample
from rpo_cli.train.processes import ALONE, World, gather_tables


def require_family(family: Family, objective: OnlineObjective) -> None:
    """Refuse what stochastic DDIM steps cannot draw.

    Raises:
        UsageError: a flow model.
    """
    family.check()
    if family.component != "unet":
        raise UsageError(
            f"{objective.name} samples with stochastic DDIM, for SD 1.x, 2.x and XL only; "
            f"a {family.pipeline} cannot be trained with it yet",
            "use a method that learns from pairs, e.g. --method dpo",
        )


def grid_of(model: str, revision: str | None, online: OnlineSettings) -> Grid:
    """The denoising steps.

    Raises:
        UsageError: more steps teach than have a density, or none has.
    """
    assert online.steps is not None
    config = Folder(model, revision).config("scheduler", DDIMScheduler)
    grid = Grid.of(config, online.steps, online.eta)
    random = len(grid.random_steps)
    if random < max(1, online.taught_steps or 0):
        raise UsageError(
            f"online.steps = {online.steps}: only {random} of these steps are random and can teach",
            "give more online.steps, or fewer online.taught_steps",
        )
    return grid


def latent_shape(family: Family, resolution: int | None) -> tuple[int, int, int]:
    """(C, h, w) of what is sampled.

    Raises:
        UsageError: the model cannot work at this resolution.
    """
    (channels, side, _), own = family.latent_size()
    if resolution is not None and resolution % family.grain():
        raise UsageError(
            f"a resolution of {resolution} pixels is no multiple of {family.grain()}, as this model needs",
            f"e.g. train.resolution = {max(1, round(resolution / family.grain())) * family.grain()}",
        )
    side = side * (resolution or own) // own
    return (channels, side, side)


def drawn_in_round(online: OnlineSettings, prompts: int) -> int:
    """Pictures of a round."""
    return min(online.prompts_per_round, prompts) * online.images_per_prompt


def rows_of_pass(settings: TrainSettings, objective: OnlineObjective, drawn: int) -> int:
    """Pictures of a forward pass, in sampling and in learning; even for pairs."""
    rows = min(settings.batch_size, drawn)
    return rows - rows % objective.width


@dataclass(frozen=True)
class Scorers:
    """What turns latents into rewards.

    Attributes:
        rewards: name → a reward that is set up.
        batch_size: pictures in one call of a reward.
    """

    encoders: Encoders
    rewards: Mapping[str, Reward]
    batch_size: int


@dataclass(frozen=True)
class Rollout:
    """The pictures of one round; M = P·N of them, those of a prompt beside each other.

    Attributes:
        prompts: the round's P prompts, (prompt_id, prompt).
        condition: of all M, as `Sampler.both` takes it, on the CPU.
        empty: (1, ...) of the negative prompt.
        scores: reward name → (P, N).
        promised: reward name → score of the picture promised at each step, (S, M); {} unless asked for.
    """

    prompts: Prompts
    condition: Condition
    empty: Condition
    trajectories: Trajectories
    scores: dict[str, Floats]
    promised: dict[str, Floats]

    @property
    def pictures(self) -> int:
        return int(self.trajectories.latents.shape[1])


def round_prompts(prompts: Prompts, seed: int, index: int, count: int) -> Prompts:
    """The prompts of round `index` (from 0): all come once before any comes again, anew shuffled."""
    count = min(count, len(prompts))
    places = [divmod(index * count + place, len(prompts)) for place in range(count)]
    return [prompts[epoch_order(seed, epoch, len(prompts))[place]] for epoch, place in places]


def roll_out(
    sampler: Sampler,
    judges: Scorers,
    objective: OnlineObjective,
    online: OnlineSettings,
    prompts: Prompts,
    *,
    negative: str,
    rows: int,
    seed: int,
    index: int,
    observer: Observer,
    world: World = ALONE,
) -> Rollout:
    """Sample and score round `index` with the policy as it is; every process gets all of it.

    Args:
        rows: of a forward pass; the last batch is padded to it.
        world: each process draws and scores a share of the batches.

    Raises:
        RpoError: a reward that is no finite number, or memory is too small.
    """
    chosen = round_prompts(prompts, seed, index, online.prompts_per_round)
    each = online.images_per_prompt
    seeds = [
        row_seed(seed, "trajectory", index, key, number) for key, _ in chosen for number in range(each)
    ]
    texts = [text for _, text in chosen]
    encoded = conditions(sampler, judges.encoders, [negative, *texts], observer)
    empty = {part: value[:1] for part, value in encoded.items()}
    condition = {part: value[1:].repeat_interleave(each, 0) for part, value in encoded.items()}
    shares = shares_of_batches(world, len(seeds), rows)
    own, counts = shares[world.rank], [len(part) for part in shares]
    found = _sampled(sampler, objective, condition, empty, seeds, rows, own)
    repeated = [texts[place // each] for place in own]
    final = scored(judges, repeated, found.latents[-1], observer)
    promised: dict[str, Floats] = {}
    if found.denoised is not None:
        steps = len(found.denoised)
        flat = scored(judges, repeated * steps, found.denoised.flatten(0, 1), observer)
        promised = {name: values.reshape(steps, len(own)) for name, values in flat.items()}
    found, final, promised = exchanged(world, found, final, promised, counts)
    scores = {name: values.reshape(len(chosen), each) for name, values in final.items()}
    return Rollout(chosen, condition, empty, found, scores, promised)


def shares_of_batches(world: World, pictures: int, rows: int) -> list[range]:
    """The pictures of each process: whole batches, so that none is drawn in another shape than alone."""
    parts = world.shares(ceil(pictures / rows))
    return [range(part.start * rows, min(part.stop * rows, pictures)) for part in parts]


def exchanged(
    world: World,
    found: Trajectories,
    final: Mapping[str, Floats],
    promised: Mapping[str, Floats],
    counts: list[int],
) -> tuple[Trajectories, dict[str, Floats], dict[str, Floats]]:
    """What each process has drawn and scored → that of all, in the order of the processes."""
    if world.size == 1:
        return found, dict(final), dict(promised)
    drawn = {name: value.movedim(1, -1) for name, value in vars(found).items() if value is not None}
    whole: dict[str, Any] = {
        name: value.movedim(-1, 1).contiguous()
        for name, value in gather_tables(world, drawn, counts).items()
    }
    scores, promises = (
        {name: torch.from_numpy(values) for name, values in table.items()} for table in (final, promised)
    )
    scores = gather_tables(world, scores, counts)
    promises = gather_tables(world, promises, counts) if promises else {}
    return Trajectories(**whole), _numpy(scores), _numpy(promises)


def _numpy(tables: Mapping[str, Tensor]) -> dict[str, Floats]:
    return {name: value.numpy() for name, value in tables.items()}


def _sampled(
    sampler: Sampler,
    objective: OnlineObjective,
    condition: Condition,
    empty: Condition,
    seeds: Sequence[int],
    rows: int,
    own: range,
) -> Trajectories:
    """Trajectories of `own` pictures in batches of exactly `rows`; of none, tensors without pictures."""
    parts: list[Trajectories] = []
    for start in own[::rows] or [0]:
        places = padded(range(start, min(start + rows, len(seeds))), rows)
        chunk = {part: value[places] for part, value in condition.items()}
        drawn = sample(
            sampler,
            sampler.both(chunk, empty),
            [seeds[place] for place in places],
            with_denoised=objective.values,
            with_reference=objective.needs_reference,
        )
        parts.append(first_rows(drawn, min(rows, own.stop - start) if own else 0))
    names = [name for name, value in vars(parts[0]).items() if value is not None]
    joined: dict[str, Any] = {
        name: torch.cat([getattr(part, name) for part in parts], dim=1) for name in names
    }
    return Trajectories(**joined)


def padded(places: Sequence[int], rows: int) -> list[int]:
    """`places` and copies of the last, `rows` in all: every batch has one shape."""
    return [*places, *[places[-1]] * (rows - len(places))]


def first_rows(found: Trajectories, count: int) -> Trajectories:
    """Without the rows that filled the batch."""
    kept: dict[str, Any] = {n: None if v is None else v[:, :count] for n, v in vars(found).items()}
    return Trajectories(**kept)


def conditions(
    sampler: Sampler, encoders: Encoders, prompts: Sequence[str], observer: Observer
) -> Condition:
    """What the denoiser is told of every prompt, (N, ...) on the CPU: SDXL of an uncropped square, too."""
    found = encode_prompts(encoders, prompts, observer)
    if sampler.family.sized:
        (_, latent_side, _), side = sampler.family.latent_size()
        pixels = sampler.shape[1] * side // latent_side
        size = Frame((pixels, pixels), (pixels, pixels)).time_ids("target")
        found["time_ids"] = size.expand(len(prompts), -1)
    return found


def encode_prompts(encoders: Encoders, prompts: Sequence[str], observer: Observer) -> Condition:
    """(N, ...) of every prompt, on the CPU; each depends on its text alone."""

    def step(batch: Sequence[str]) -> list[Condition]:
        found = encoders.encode_prompts(batch)
        return [{part: values[row] for part, values in found.items()} for row in range(len(batch))]

    size = texts_at_once(encoders, str(encoders.vae.device))
    made, _ = run_halving(step, list(prompts), size, what="encoding", note=observer.note)
    return {part: torch.stack([one[part] for one in made]) for part in made[0]}


@torch.no_grad()
def decode(encoders: Encoders, latents: Tensor) -> list[Picture]:
    """Pictures of latents (N, C, h, w), as the pipeline itself makes them."""
    pixels = encoders.vae.decode(
        latents.to(encoders.vae.device) / encoders.vae.config.scaling_factor
    ).sample
    pictures: list[Picture] = encoders.pipe.image_processor.postprocess(pixels, output_type="pil")
    return pictures


def scored(
    judges: Scorers, prompts: Sequence[str], latents: Tensor, observer: Observer
) -> dict[str, Floats]:
    """Every reward of every picture, (N,) each.

    Raises:
        RpoError: a reward that is no finite number.
    """
    rows, device, factor = (
        list(latents),
        str(judges.encoders.vae.device),
        judges.encoders.pipe.vae_scale_factor,
    )
    size = (latents.shape[3] * factor, latents.shape[2] * factor)
    pictures, _ = run_halving(
        lambda batch: decode(judges.encoders, torch.stack(list(batch))),
        rows,
        pictures_at_once(size, device),
        what="decoding",
        note=observer.note,
    )
    items = list(zip(prompts, pictures, strict=True))
    found = {}
    for name, reward in judges.rewards.items():

        def step(batch: Sequence[tuple[str, Picture]], reward: Reward = reward) -> list[float]:
            return reward.score([prompt for prompt, _ in batch], [picture for _, picture in batch])

        values, _ = run_halving(step, items, judges.batch_size, what=name, note=observer.note)
        found[name] = _finite(name, prompts, values)
    return found


def _finite(name: str, prompts: Sequence[str], values: Sequence[float]) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(array))
    if len(wrong):
        raise RpoError(
            f"reward '{name}' is {array[wrong[0]]} for a picture of {prompts[wrong[0]]!r}",
            "a reward must be a finite number; try --dtype float32, or another reward",
        )
    return array
