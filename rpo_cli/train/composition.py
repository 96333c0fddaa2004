"""Settings → the objective they ask for, β in every convention; what contradicts it is refused.

Methods that sample their own pictures are composed of the sections [train] and [online] alike.

Ours is Salesforce's, with a ½ and errors as means over C, H, W (`rpo list objectives dpo`). diffusers' SD
script has no ½; SimpleTuner sums over C, H, W and keeps the ½.
"""

from dataclasses import dataclass, fields, replace
from math import prod
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, get_args

from rpo_cli import registry
from rpo_cli.config import BetaFrom, Link, OnlineSettings, TrainSettings
from rpo_cli.errors import SettingsError, UsageError
from rpo_cli.train.data.singles import holds_singles
from rpo_cli.train.inputs import Embedder
from rpo_cli.train.objectives.components import single, unpaired
from rpo_cli.train.objectives.objective import SALESFORCE, Errors, Objective, ranks
from rpo_cli.train.objectives.online import OF_PAIRS, OnlineObjective

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


ONLINE_NAMES = frozenset(entry.name for entry in fields(OnlineObjective)) - {"name", "learning_rate"}
ONLINE_PARTS = {
    f"{section}.{name}": name
    for section, model in (("train", TrainSettings), ("online", OnlineSettings))
    for name in sorted(ONLINE_NAMES & set(model.model_fields))
}
ONLINE_HINT = "`rpo list objectives` shows what each method is made of and may change"


def is_online(settings: TrainSettings) -> bool:
    """Whether the method samples its own pictures."""
    return isinstance(registry.load("objectives", settings.method), OnlineObjective)


def composed_online(settings: TrainSettings, online: OnlineSettings) -> OnlineObjective:
    """The method's objective with the parts that the settings change.

    Raises:
        SettingsError: every setting that contradicts the method, or another setting.
    """
    objective: OnlineObjective = registry.load("objectives", settings.method)
    parts = ONLINE_PARTS
    given = {path: value for path in parts if (value := _value(settings, online, path)) is not None}
    problems = [
        f"{path}: {value!r} contradicts {objective.name}, which has {getattr(objective, parts[path])!r}"
        for path, value in given.items()
        if parts[path] not in objective.open and value != getattr(objective, parts[path])
    ]
    problems += [
        f"train.{name}: {getattr(settings, name)!r} does not go with {objective.name}, which samples"
        for name, neutral in OF_PAIRS.items()
        if (getattr(settings, name) or None) != (neutral or None)  # 0 and False say nothing either
    ]
    opened = {parts[path]: value for path, value in given.items() if parts[path] in objective.open}
    changed = replace(objective, **opened)
    problems += _inconsistent_online(changed, settings, online)
    if problems:
        raise SettingsError("settings", problems, ONLINE_HINT)
    return changed


def _value(settings: TrainSettings, online: OnlineSettings, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(settings if section == "train" else online, name)


def _inconsistent_online(
    objective: OnlineObjective, settings: TrainSettings, online: OnlineSettings
) -> list[str]:
    """Settings that do not go together, or are missing."""
    unused_beta = settings.beta is not None and objective.default_beta is None
    too_many = online.steps is not None and (online.taught_steps or 0) > online.steps
    checks = (
        (
            not settings.rounds,
            f"train.rounds: {objective.name} samples, scores and learns in rounds; say how many (--rounds)",
        ),
        (unused_beta, f"train.beta: {objective.name} has none"),
        (too_many, f"online.taught_steps: {online.taught_steps} of {online.steps} denoising steps"),
        (
            objective.paired and settings.batch_size < 2,
            "train.batch_size: both pictures of a pair go through one forward pass; at least 2",
        ),
    )
    return [problem for wrong, problem in checks if wrong]


def settled_online(
    settings: TrainSettings, online: OnlineSettings
) -> tuple[TrainSettings, OnlineSettings, OnlineObjective]:
    """Both sections with the method's own numbers where none were given, for the record; the objective.

    Raises:
        SettingsError: see `composed_online`.
    """
    objective = composed_online(settings, online)
    own: dict[str, dict[str, Any]] = {"train": {}, "online": {}}
    for path, name in ONLINE_PARTS.items():
        section, _, setting = path.partition(".")
        if name in objective.open:
            own[section][setting] = getattr(objective, name)
    own["train"]["beta"] = settings.beta if settings.beta is not None else objective.default_beta
    settled = settings.model_copy(update=unnamed(settings) | own["train"])
    return settled, online.model_copy(update=own["online"]), objective
