"""What a training is made from, and settings → the objective they ask for, β in every convention.

What contradicts a method is refused. For methods that sample their own pictures: `objectives/online.py`.

Ours is Salesforce's, with a ½ and errors as means over C, H, W (`rpo list objectives dpo`). diffusers' SD
script has no ½; SimpleTuner sums over C, H, W and keeps the ½.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import prod
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, get_args

from rpo_cli import registry
from rpo_cli.config import BetaFrom, Link, OnlineSettings, TrainSettings
from rpo_cli.errors import SettingsError, UsageError
from rpo_cli.protocols import Reward
from rpo_cli.train.data.singles import holds_singles
from rpo_cli.train.objectives.components import single, unpaired
from rpo_cli.train.objectives.objective import SALESFORCE, Errors, Objective, ranks

Prompts = Sequence[tuple[str, str]]  # (prompt_id, prompt)


@dataclass(frozen=True)
class Start:
    """Where a training begins that goes on from another one.

    Attributes:
        adapter: LoRA folder of the policy's first weights; None: those of the model.
        reference: LoRA folder of what the loss is relative to; None: the model without adapters.
        identity: what tells it from every other start.
        keep_reference: write the reference as it is at the end to OUT/reference, for the next training.
    """

    adapter: Path | None
    reference: Path | None
    identity: str
    keep_reference: bool = False


@dataclass(frozen=True)
class Embedder:
    """The CLIP model that tells how alike pictures are: folder or hub id, revision, hash or commit."""

    model: str
    revision: str | None
    identity: str


@dataclass(frozen=True)
class Rewards:
    """The rewards of a training, before they are loaded.

    Attributes:
        identities: name → everything that determines a score: model, template, number format.
        build: a torch device → the rewards by name, set up.
        batch_size: pictures in one call.
    """

    identities: Mapping[str, str]
    build: Callable[[str], Mapping[str, Reward]]
    batch_size: int


@dataclass(frozen=True)
class TrainInputs:
    """What a training on a dataset is made from.

    Attributes:
        dataset: a dataset folder (data/train-*.parquet, data/validation-*.parquet), or one of pictures that
            were judged one by one (`data/singles.py`).
        model: diffusers folder or hub id; `model_identity` is its commit or weight hash.
        out: RUN/train/<name>. `cache`: RUN/cache.
        seed: of this training, whatever `settings.seed` says.
        device: a torch device string or "auto".
        threads: of the CPU, for each process; 0: as many as it has.
        embedder: for methods that compare pictures of several prompts.
        start: of a training that goes on from another one; None: from the model.
        dataset_identity: what tells the dataset from others; "": nothing is kept under it.
    """

    settings: TrainSettings
    dataset: Path
    model: str
    revision: str | None
    model_identity: str
    out: Path
    cache: Path
    seed: int
    device: str
    threads: int = 0
    embedder: Embedder | None = None
    start: Start | None = None
    dataset_identity: str = ""


@dataclass(frozen=True)
class OnlineInputs:
    """What a training on pictures of the policy's own is made from; other fields as of `TrainInputs`.

    Attributes:
        online: with `steps` and `guidance`.
        prompts: (prompt_id, prompt), in any order.
        prompts_identity: what tells prompts and negative prompt from others; "": nothing is kept under it.
    """

    settings: TrainSettings
    online: OnlineSettings
    prompts: Prompts
    rewards: Rewards
    model: str
    revision: str | None
    model_identity: str
    out: Path
    seed: int
    device: str
    negative_prompt: str = ""
    threads: int = 0
    prompts_identity: str = ""


APART = 0.005  # sides that moved apart by this share of the reference's error make a logit of 1


def salesforce_beta(beta: float, convention: BetaFrom | None, elements: int) -> float:
    """A β of another convention in ours; `elements` is C·H·W of the latents."""
    if convention == "diffusers-sd":
        return 2 * beta
    return beta * elements if convention == "summed" else beta


def equivalents(beta: float, elements: int) -> str:
    """Our β as other trainers would write it."""
    return f"= {beta / 2:g} without the ½ (diffusers-sd) = {beta / elements:.4g} on summed errors (summed)"


def scale_line(objective: Objective, beta: float, shape: tuple[int, int, int]) -> str:
    """β and what it multiplies, for the line printed at the start."""
    if objective.default_beta is None:
        return "no beta"
    told = f"beta {beta:g}: {objective.beta_unit}"
    return f"{told} {equivalents(beta, prod(shape))}" if objective.beta_unit == SALESFORCE else told


@dataclass(frozen=True)
class BetaAdvice:
    """A proposed β in three conventions, and what it was made from.

    Attributes:
        reference_error: mean over the pictures.
        spread: standard deviation over the pairs of the reference's r_l − r_w.
    """

    method: str
    beta: float
    diffusers_sd: float
    summed: float
    reference_error: float
    spread: float
    pairs: int
    rule: str


def suggest_beta(objective: Objective, reference: Errors, elements: int) -> BetaAdvice:
    """β at which the logits of this model and data are of the order of 1.

    With a full reference the logit starts at 0: β is such that sides which moved apart by 0.5 % of the
    reference's mean error make a logit of 1. With a mixed one, (β/2)(1−α)·sd(r_l − r_w) = 1 at the start.
    """
    values = ranks(reference.policy, reference.width)
    mean, spread = fmean(values.flatten().tolist()), pstdev((values[-1] - values[0]).tolist())
    free = 1 - objective.reference_mix
    if free > 0 and spread > 0:
        beta = 2 / (free * spread)
        rule = "the logits' spread before the first step is 1"
    else:
        beta = 2 / (APART * mean)
        rule = f"sides that moved apart by {APART:.1%} of the reference's error make a logit of 1"
    beta = float(f"{beta:.2g}")
    return BetaAdvice(objective.name, beta, beta / 2, beta / elements, mean, spread, values.shape[1], rule)


# settings that are parts of the objective, under the same name
PARTS = tuple(
    sorted({entry.name for entry in fields(Objective)} & set(TrainSettings.model_fields) - {"name"})
)
WARMUP = 10
HINT = "`rpo list objectives` shows what each method is made of; rainbow leaves every part open"


def composed(settings: TrainSettings) -> Objective:
    """The method's objective with the parts that the settings change.

    Raises:
        SettingsError: every setting that contradicts the method, or another setting.
    """
    objective: Objective = registry.load("objectives", settings.method)
    given = {name: value for name in PARTS if (value := getattr(settings, name)) is not None}
    problems = [
        f"train.{name}: {value!r} contradicts {objective.name}, which has {getattr(objective, name)!r}"
        for name, value in given.items()
        if name not in objective.open and value != getattr(objective, name)
    ]
    changed = replace(objective, **{name: value for name, value in given.items() if name in objective.open})
    if changed.reference_mix == 0:
        changed = replace(changed, needs_reference=False)
    problems += _inconsistent(changed, settings, given)
    if problems:
        raise SettingsError("settings", problems, HINT)
    return changed


def for_data(objective: Objective, settings: TrainSettings, dataset: Path) -> Objective:
    """The objective as it is on this data: itself on pairs, its form for single pictures on those.

    Raises:
        SettingsError: every setting that needs pairs, where there are none.
    """
    if not holds_singles(dataset):
        return objective
    checks = (
        (
            objective.contrast is not unpaired,
            f"train.method: {objective.name} compares pictures of a pair, and {dataset} holds single ones",
        ),
        (objective.pair_weight != "none", "train.pair_weight: weighs a pair, and there are none"),
        (objective.sft_weight > 0, "train.sft_weight: counts the winner of a pair, and there are none"),
    )
    if problems := [problem for wrong, problem in checks if wrong]:
        raise SettingsError("settings", problems, "--method kto, or a dataset of pairs")
    return replace(objective, contrast=single, list_size=1)


def _inconsistent(objective: Objective, settings: TrainSettings, given: dict[str, Any]) -> list[str]:
    """Settings that do not go together."""
    group, batch = objective.group_size, settings.global_batch
    first, last = objective.min_timestep, objective.max_timestep
    moves = objective.reference_every is not None
    checks = (
        (
            bool(settings.dataset and settings.rounds),
            "train.dataset: rounds make their own pairs, and that of the run gives their prompts",
        ),
        (
            bool(settings.text_encoder) and settings.full,
            "train.text_encoder: adapters on text encoders, and train.full tunes the denoiser without any",
        ),
        (
            bool(settings.text_encoder) and "merged" in settings.export,
            "train.export: merged is the denoiser alone, and train.text_encoder changes more than that",
        ),
        (batch % group != 0, f"train.group_size: {group} does not divide the global batch of {batch}"),
        (last is not None and last < first, f"train.max_timestep: {last} is below the lowest, {first}"),
        (
            bool(given.get("margin")) and "margin" in objective.open and objective.reference_mix == 1,
            "train.margin: counts (1 - reference_mix)-fold, and train.reference_mix is 1",
        ),
        (
            objective.reference_decay > 0 and not moves,
            "train.reference_decay: of a reference that moves, and train.reference_every is not given",
        ),
        (
            objective.ratio_base == "old" and not moves,
            "train.ratio_base: old is the policy of the last move, and train.reference_every is not given",
        ),
        (
            objective.clip > 0 and objective.ratio_base == "ref" and moves,
            "train.reference_every: the ratio of train.ratio_base = 'ref' is to a policy that never moves",
        ),
        (
            settings.beta_from is not None and objective.beta_unit != SALESFORCE,
            f"train.beta_from: the beta of {objective.name} is another thing: {objective.beta_unit}",
        ),
        (
            settings.beta_from is not None and settings.beta is None,
            "train.beta_from: says whose beta is given, and train.beta is not",
        ),
    )
    return [problem for wrong, problem in checks if wrong] + _unkeepable(objective, settings)


def _unkeepable(objective: Objective, settings: TrainSettings) -> list[str]:
    """Why the reference's errors cannot be kept, when they are to be."""
    checks = (
        (not objective.needs_reference, "runs no reference"),
        (objective.reference_every is not None, "has a reference that moves (train.reference_every)"),
        (objective.needs_cross, "needs both predictions at once"),
        (objective.shared != "none", f"gives the pairs of a group one {objective.shared}"),
    )
    found = [why for wrong, why in checks if wrong] if settings.reference_draws else []
    return [f"train.reference_draws: {objective.name} {why}" for why in found]


def settled(settings: TrainSettings) -> tuple[TrainSettings, Objective]:
    """The settings with the method's own numbers where none were given, for the record; and the objective.

    What is no part of the method stays None.

    Raises:
        SettingsError: see `composed`.
    """
    objective = composed(settings)
    neutral = {entry.name: entry.default for entry in fields(Objective)}
    parts = {name: getattr(objective, name) for name in PARTS if getattr(objective, name) != neutral[name]}
    if parts.get("link") not in get_args(Link):  # of a method that has one of its own
        parts.pop("link", None)
    beta = settings.beta if settings.beta is not None and objective.default_beta else objective.default_beta
    draws = settings.reference_draws or None
    told = {**parts, **unnamed(settings), "beta": beta, "reference_draws": draws}
    return settings.model_copy(update=told), objective


def unnamed(settings: TrainSettings) -> dict[str, Any]:
    """Numbers for those that neither the settings nor a family name."""
    plain = {"learning_rate": 1e-4, "warmup_steps": WARMUP, "caption_dropout": 0.0, "flip": False}
    return {name: value for name, value in plain.items() if getattr(settings, name) is None}


def require_embedder(objective: Objective, embedder: Embedder | None) -> Embedder | None:
    """The embedder of an objective that needs one, else None.

    Raises:
        UsageError: it needs one, and there is none.
    """
    if objective.needs_embedder and embedder is None:
        raise UsageError(
            f"{objective.name} compares pictures of several prompts and needs a CLIP model",
            "--set train.embedder=FOLDER_OR_HUB_ID, or score.rewards with clip=FOLDER_OR_HUB_ID",
        )
    return embedder if objective.needs_embedder else None


# settings of training on pairs, with the value at which they say nothing
OF_PAIRS: dict[str, Any] = {
    "text_encoder": None,
    "dataset": None,
    "beta_from": None,
    "caption_dropout": 0.0,
    "flip": False,
    "buckets": False,
    "timestep_density": None,
    "reference_draws": None,
    "reference_mix": None,
    "reference_every": None,
    "reference_decay": None,
    "margin": None,
    "scale": None,
    "sft_weight": None,
    "label_smoothing": None,
    "soft_labels": None,
    "pair_weight": None,
    "timestep_weight": None,
    "timestep_discount": None,
    "min_timestep": None,
    "max_timestep": None,
    "group_size": None,
    "list_size": None,
    "temperature": None,
    "divergence": None,
    "divergence_alpha": None,
    "desirable_weight": None,
    "undesirable_weight": None,
    "dro_temperature": None,
    "dro_trim": None,
    "embedder": None,
    "compile": False,  # compiled passes with and without gradient differ: a ratio would not start at 1
}


def is_online(settings: TrainSettings) -> bool:
    """Whether the method samples its own pictures."""
    return not isinstance(registry.load("objectives", settings.method), Objective)


def in_rounds(settings: TrainSettings) -> bool:
    """Whether the settings ask for rounds of pairs; methods on trajectories have a loop of their own."""
    return bool(settings.rounds) and not is_online(settings)
