"""Objectives on sampled trajectories, as data; what each says about a step is in `online/losses.py`."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from rpo_cli import registry
from rpo_cli.config import Baseline, OnlineSettings, RatioBase, TrainSettings
from rpo_cli.errors import SettingsError
from rpo_cli.train.composition import OF_PAIRS, unnamed


@dataclass(frozen=True)
class OnlineObjective:
    """One method that samples, scores and learns.

    Attributes:
        form: what learns from a step: a picture by its advantage, a pair step by step, or a pair by the sum
            of its steps.
        bounded: "pessimistic" is PPO's min, "plain" a bare clamp of the ratio.
        beta_unit: what beta multiplies.
        learning_rate: the published one; counts when the user names none.
        formula: the loss of a step or pair, as in `train.objective.Objective`; `equation`: where it stands.
        open: settings that may differ from the values here.
        baseline: what a reward is compared with; None: pairs are compared with each other.
        advantage_clip: advantages are held within ±this.
        min_margin: pairs whose gap is less, in standard deviations over start seeds, are left out.
        values: whether every step is scored by the picture that it promises.
        penalty: what beta weighs: nothing, the KL of a step in the loss, or a running cost in the reward.
    """

    name: str
    summary: str
    form: Literal["advantage", "step pair", "pair"]
    bounded: Literal["pessimistic", "plain"]
    clip: float
    ratio_base: RatioBase
    default_beta: float | None
    beta_unit: str
    learning_rate: float
    source: str
    needs: str
    open: tuple[str, ...]
    formula: str = ""
    equation: str = ""
    link: str = "logistic"
    baseline: Baseline | None = None
    advantage_clip: float | None = None
    min_margin: float | None = None
    values: bool = False
    penalty: Literal["none", "step KL", "running"] = "none"

    @property
    def paired(self) -> bool:
        return self.form != "advantage"

    @property
    def width(self) -> int:
        """Pictures of an item: a winner and a loser, or one."""
        return 2 if self.paired else 1

    @property
    def needs_reference(self) -> bool:
        return self.ratio_base == "ref" or self.penalty != "none"


ADVANTAGE = ("clip", "baseline", "advantage_clip")

DDPO = OnlineObjective(
    name="ddpo",
    summary="PPO on the steps of sampled pictures, rewards compared within a prompt.",
    form="advantage",
    bounded="pessimistic",
    clip=1e-4,
    ratio_base="old",
    default_beta=None,
    beta_unit="not used",
    learning_rate=3e-4,
    source="Black et al. 2023, arXiv:2305.13301; kvablack/ddpo-pytorch scripts/train.py",
    formula=(
        "rho = exp(l)\n"
        "L = E[max(-A * rho, -A * clip(rho, 1 - eps, 1 + eps))]\n"
        "A: (reward - mean) / deviation of the baseline, within advantage_clip; eps: clip"
    ),
    equation="arXiv:1707.06347, eq. 7, on the steps of arXiv:2305.13301",
    needs="rewards and prompts of the run; no pairs, no reference",
    open=ADVANTAGE,
    baseline="running",
    advantage_clip=5.0,
)

DPOK = OnlineObjective(
    name="dpok",
    summary="DDPO's step with the KL of every step to the pretrained model's added to the loss.",
    form="advantage",
    bounded="pessimistic",
    clip=1e-4,
    ratio_base="old",
    default_beta=0.01,
    beta_unit="loss per nat of KL of one step and element, beside advantages of spread 1",
    learning_rate=1e-5,
    source="Fan et al. 2023, arXiv:2305.16381; google-research/dpok, with the Gaussian steps' own KL",
    formula=(
        "rho = exp(l)\n"
        "L = E[max(-A * rho, -A * clip(rho, 1 - eps, 1 + eps)) + beta * KL]\n"
        "A: as of ddpo; KL: of the step to that of the pretrained model; eps: clip"
    ),
    equation="arXiv:1707.06347, eq. 7, with the KL term of google-research/dpok",
    needs="rewards and prompts of the run; a reference; beta in loss per nat of a step's per-element KL",
    open=ADVANTAGE,
    baseline="running",
    advantage_clip=5.0,
    penalty="step KL",
)

SCORE_AS_ACTION = OnlineObjective(
    name="score-as-action",
    summary="The score as a control: a step's advantage is its gain in value less a running cost.",
    form="advantage",
    bounded="pessimistic",
    clip=1.5e-5,
    ratio_base="old",
    default_beta=0.01,
    beta_unit="reward per unit of the per-element integral of g² |s − s_pre|², with the 1/2",
    learning_rate=5e-5,
    source="Zhao et al. 2025, arXiv:2502.01819; hanyang1999/ContTimeRL4DM, no value network",
    formula=(
        "rho = exp(l)\n"
        "L = E[max(-A * rho, -A * clip(rho, 1 - eps, 1 + eps))]\n"
        "A: V(next) - V(t) - beta/2 * integral of g^2 |s - s_pre|^2 over the step, standardised\n"
        "V: cos(pi t/2T) * R(x_0 as it is seen at t) + sin(pi t/2T) * mean reward of the prompt; eps: clip"
    ),
    equation="arXiv:1707.06347, eq. 7, on the value of hanyang1999/ContTimeRL4DM",
    needs="rewards and prompts of the run; a reference; beta in reward per integral of g²|s - s_pre|²/2",
    open=ADVANTAGE,
    baseline="running",
    advantage_clip=5.0,
    values=True,
    penalty="running",
)

D3PO = OnlineObjective(
    name="d3po",
    summary="DPO on the steps of a prompt's best and worst picture, ratios under the plain clamp.",
    form="step pair",
    bounded="plain",
    clip=0.1,
    ratio_base="ref",
    default_beta=0.1,
    beta_unit="logits per unit of per-element log-ratio of one step",
    learning_rate=3e-5,
    source="Yang et al. 2023, arXiv:2311.13231; yk7333/d3po scripts/train.py, best and worst of N",
    formula=(
        "z = beta * (clip(l_w, log(1 - eps), log(1 + eps)) - clip(l_l, log(1 - eps), log(1 + eps)))\n"
        "L = E[-log(sigma(z))]\n"
        "of every step by itself; eps: clip"
    ),
    equation="yk7333/d3po scripts/train.py",
    needs="rewards and prompts of the run; a reference; beta in logits per unit of a step's log-ratio",
    open=("clip", "min_margin"),
    min_margin=0.5,
)

PPOD_ONLINE = OnlineObjective(
    name="ppod-online",
    summary="PPOD on a prompt's best and worst picture: log-ratios under PPO's min, summed over the steps.",
    form="pair",
    bounded="pessimistic",
    clip=1e-4,
    ratio_base="old",
    default_beta=200.0,  # β·2ϵ·50 steps = 2: the logit's bound is that of SPO
    beta_unit="logits per unit of per-element log-ratio, summed over the steps",
    learning_rate=1e-4,
    source="PPOD, ICLR 2024 submission; PPO's min per side, Schulman et al. 2017, arXiv:1707.06347",
    formula=(
        "z = beta * sum over steps of (min(l_w, log(1 + eps)) - max(l_l, log(1 - eps)))\n"
        "L = E[-log(sigma(z))]\n"
        "eps: clip"
    ),
    equation="ours, with PPO's min: arXiv:1707.06347, eq. 7",
    needs="rewards and prompts of the run; beta in logits per unit of log-ratio summed over steps",
    open=("clip", "link", "ratio_base", "min_margin"),
    min_margin=0.5,
)

ONLINE_NAMES = frozenset(entry.name for entry in fields(OnlineObjective)) - {"name", "learning_rate"}
ONLINE_PARTS = {
    f"{section}.{name}": name
    for section, model in (("train", TrainSettings), ("online", OnlineSettings))
    for name in sorted(ONLINE_NAMES & set(model.model_fields))
}
ONLINE_HINT = "`rpo list objectives` shows what each method is made of and may change"


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
