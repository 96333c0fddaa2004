"""Objectives as data: pure functions on per-image denoising errors, un-reduced; their links.

An item is a pair, or a ranked list of K pictures of one prompt. Per-image values of B items are (K·B,):
the best picture of every item first, in the order of the items, then the second best, ...

Source: logistic, Rafailov et al. 2023, arXiv:2305.18290; ipo, Azar et al. 2023, arXiv:2310.12036; slic,
Zhao et al. 2023, arXiv:2305.10425; cauchy and modified ipo, RainbowPO, arXiv:2410.04203; exponential, Tang
et al. 2024, arXiv:2402.05749.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal

from rpo_cli.config import PairWeight, RatioBase, SoftLabels, TimestepWeight
from rpo_cli.errors import RpoError

if TYPE_CHECKING:
    from torch import Tensor

    Logits = tuple[Tensor, Tensor | float]  # z, (B,) or (n, B), and the share of each in an item's loss


@dataclass(frozen=True)
class Known:
    """What is known of B items before any model runs; None where the objective does not ask.

    The last axis of every tensor is B.

    Attributes:
        weight: (B,) multiplies z inside the link.
        label: (B,) probability in [0, 1] that the first picture is the better one.
        ratio: (B,) SNR_{t−1}/SNR_t − 1, times what turns an error of the model's target into one of ε.
        gains: (K, B) worth of each picture of a list.
        features: (2, D, B) unit vectors of the winners and of the losers.
        good: (B,) 1 for a single picture that is good, -1 for a bad one.
        noise: (B,) timestep over the number of timesteps, in [0, 1); for the log.
        divergence: (B,) KL per element of one denoising step, in nats per unit of the mean squared distance
            of two predictions; NaN at the ends, where a step has none; for the log.
    """

    weight: Tensor | None = None
    label: Tensor | None = None
    ratio: Tensor | None = None
    gains: Tensor | None = None
    features: Tensor | None = None
    good: Tensor | None = None
    noise: Tensor | None = None
    divergence: Tensor | None = None


@dataclass(frozen=True)
class Errors:
    """Denoising errors of B items, (K·B,) float32: means over C, H, W on the model's own target.

    Attributes:
        cross: mean((ε_θ − ε)(ε_ref − ε)), (K·B,); only for objectives that need it.
        width: K.
        distance: mean((ε_θ − ε_ref)²), (K·B,), without gradient; None where the two did not run together.
    """

    policy: Tensor
    reference: Tensor | None
    cross: Tensor | None = None
    known: Known = field(default_factory=Known)
    width: int = 2
    distance: Tensor | None = None


def ranks(values: Tensor, width: int = 2) -> Tensor:
    """(K·B,) → (K, B)."""
    return values.view(width, -1)


def sides(values: Tensor) -> tuple[Tensor, Tensor]:
    """(2B,) → winners (B,), losers (B,)."""
    winner, loser = values.chunk(2)
    return winner, loser


def join(parts: Sequence[Errors]) -> Errors:
    """Errors of several micro-batches as those of one batch, without gradient."""
    import torch

    width = parts[0].width

    def joined(values: Sequence[Tensor | None]) -> Tensor | None:
        present = [ranks(value.detach(), width) for value in values if value is not None]
        return torch.cat(present, dim=-1).reshape(-1) if present else None

    policy = joined([part.policy for part in parts])
    assert policy is not None
    return Errors(
        policy=policy,
        reference=joined([part.reference for part in parts]),
        cross=joined([part.cross for part in parts]),
        known=join_known([part.known for part in parts]),
        width=width,
        distance=joined([part.distance for part in parts]),
    )


def join_known(parts: Sequence[Known]) -> Known:
    """What is known of the items of several micro-batches, in order."""
    import torch

    found = {}
    for name in (entry.name for entry in fields(Known)):
        values = [getattr(part, name) for part in parts]
        found[name] = None if values[0] is None else torch.cat(values, dim=-1)
    return Known(**found)


def reference_of(errors: Errors) -> Tensor:
    """The reference's errors.

    Raises:
        RpoError: the errors were made without a reference.
    """
    if errors.reference is None:
        raise RpoError("this objective needs the reference's errors", "report this: the loop left them out")
    return errors.reference


# weight or label → the column of the dataset that it is made from
COLUMNS = {
    "dispersion": "dispersion",
    "margin": "margin",
    "smooth-margin": "margin",
    "agreement": "agreement",
    "share": "share_0",
}


def importance(losses: Tensor, group: int, temperature: float, trim: float) -> Tensor:
    """(B,) weights of mean 1 in every group: exp(loss/λ), the highest `trim` of a group at 0; no gradient.

    The items of a group share their timestep, and a softmax does not see a common offset: so the losses
    are centred per timestep without a running mean. Source: IR-DRO, arXiv:2402.14270.
    """
    import torch

    grouped = losses.detach().view(-1, group)
    kept = group - int(trim * group)
    order = grouped.argsort(dim=1, stable=True).argsort(dim=1)
    exponent = (grouped / temperature).masked_fill(order >= kept, -torch.inf)
    return (group * torch.softmax(exponent, dim=1)).view_as(losses)


EXPONENTIAL_FLOOR = -20.0  # e^20 = 4.9e8: beyond, one pair would drown the batch


def identity(z: Tensor) -> Tensor:
    """z itself: for objectives that are no comparison."""
    return z


def logistic(z: Tensor) -> Tensor:
    """−log σ(z), without the overflow of log(sigmoid(z))."""
    import torch

    return -torch.nn.functional.logsigmoid(z)


def ipo(z: Tensor) -> Tensor:
    """(z − ½)²: a finite margin is the aim, also where the labels are certain."""
    return (z - 0.5).square()


def modified_ipo(z: Tensor) -> Tensor:
    """max(0, ½ − z)²: no pull back from beyond the margin."""
    return (0.5 - z).clamp(min=0).square()


def slic(z: Tensor) -> Tensor:
    """max(0, 1 − z)."""
    return (1 - z).clamp(min=0)


def cauchy(z: Tensor) -> Tensor:
    """−log(½ + arctan(z)/π), written so that it does not cancel at large negative z."""
    import torch

    return -torch.log(torch.atan2(torch.ones_like(z), -z) / math.pi)


def exponential(z: Tensor) -> Tensor:
    """exp(−max(z, −20))."""
    import torch

    return torch.exp(-z.clamp(min=EXPONENTIAL_FLOOR))


def utility(z: Tensor) -> Tensor:
    """1 − σ(z): bounded, so that no picture can dominate."""
    import torch

    return torch.sigmoid(-z)


LINKS: dict[str, Callable[[Tensor], Tensor]] = {
    "logistic": logistic,
    "ipo": ipo,
    "modified-ipo": modified_ipo,
    "slic": slic,
    "cauchy": cauchy,
    "exponential": exponential,
    "utility": utility,
    "identity": identity,
}


SALESFORCE = "logits per 2 units of denoising error, errors as means over C,H,W (Salesforce's β)"
# settings that a method may leave open, by what they need to make sense
TIMESTEPS = ("timestep_weight", "timestep_discount", "min_timestep", "max_timestep")
WEIGHTS = ("pair_weight", *TIMESTEPS)
LABELS = ("label_smoothing", "soft_labels", "sft_weight")
MOVING = ("reference_every", "reference_decay")


@dataclass(frozen=True)
class Objective:
    """One training objective: its parts, their numbers, and what it needs.

    Attributes:
        default_beta: None where the objective has no such scale.
        beta_unit: what beta multiplies, for the line printed at the start.
        source: paper and public code that define it.
        formula: the loss of an item at these values, line by line; `rpo list objectives NAME` says what the
            letters are, lines with a colon explain others. A test computes what the lines with "=" say.
        equation: where it stands, and what differs there.
        losers: those of the dataset, or what rounds make of its winners: other pictures of their prompts
            (generated), or themselves with a part of their noise put back (renoised).
        needs: beside pairs, in words, for `rpo list objectives`.
        open: settings that may differ from the values here; any other difference is an error.
        reference_mix: α of Δm − αΔr; 0 runs no reference.
        reference_every: optimiser steps until the reference moves; None: it stays the initial policy.
        reference_decay: b of reference ← b·reference + (1 − b)·policy; 0: it becomes the policy.
        ratio_base: what a likelihood ratio is to: the initial policy, or the moving reference.
        margin: γ in logits; counts (1 − α)-fold.
        scale: of the preference term beside the SFT term.
        sft_weight: λ of λ·m_w.
        group_size: items over which the objective couples; 1: none.
        shared: what the items of a group have in common beside their step.
        list_size: pictures of one prompt in an item; 1: each is judged alone.
        clip: ϵ of the band of the step's likelihood ratio; 0: none.
        dro_temperature: λ of the weights exp(loss/λ) within a group; 0: none.
        dro_trim: share of a group, the highest losses, that gets no weight.
        numbers: (name, value) of those that are its own, and no setting.
    """

    name: str
    summary: str
    transform: Callable[[Errors, float, Objective], Tensor]
    contrast: Callable[[Tensor, Known, float, Objective], Logits]
    link: str
    needs_reference: bool
    default_beta: float | None
    beta_unit: str
    source: str
    formula: str = ""
    equation: str = ""
    needs: str = "a reference"
    losers: Literal["given", "generated", "renoised"] = "given"
    open: tuple[str, ...] = ()
    reference_mix: float = 1.0
    reference_every: int | None = None
    reference_decay: float = 0.0
    ratio_base: RatioBase = "ref"
    margin: float = 0.0
    label_smoothing: float = 0.0
    soft_labels: SoftLabels = "none"
    scale: float = 1.0
    sft_weight: float = 0.0
    pair_weight: PairWeight = "none"
    timestep_weight: TimestepWeight = "none"
    timestep_discount: float = 1.0
    min_timestep: int = 0
    max_timestep: int | None = None
    group_size: int = 1
    shared: Literal["none", "timestep", "noise"] = "none"
    list_size: int = 2
    temperature: float = 0.5
    divergence: str = "reverse-kl"
    divergence_alpha: float = 0.5
    clip: float = 0.0
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    dro_temperature: float = 0.0
    dro_trim: float = 0.0
    needs_cross: bool = False
    needs_embedder: bool = False
    numbers: tuple[tuple[str, float], ...] = ()

    @property
    def compares(self) -> bool:
        """Whether z is a logit of a comparison."""
        return self.link != "identity"

    @property
    def listwise(self) -> bool:
        """Whether its items are ranked lists."""
        return "list_size" in self.open

    @property
    def singles(self) -> bool:
        """Whether its items are single pictures, each good or bad."""
        return self.list_size == 1

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the dataset that it reads beside pictures, label and caption."""
        if self.listwise:
            return ("rewards_0", "rewards_1")
        return tuple(
            sorted({COLUMNS[name] for name in (self.pair_weight, self.soft_labels) if name != "none"})
        )

    def logits(self, errors: Errors, beta: float) -> Tensor:
        """z before the weight, (B,) or (n, B). z > 0 means that the policy ranks as the label does."""
        return self._contrast(errors, beta)[0]

    def losses(self, errors: Errors, beta: float, weight: Tensor | None = None) -> Tensor:
        """One loss per item, (B,); `weight` (B,) multiplies z inside the link, `known.weight` when None."""
        z, share = self._contrast(errors, beta)
        weight = errors.known.weight if weight is None else weight
        found = share * self._linked(z if weight is None else weight * z, errors.known.label)
        found = self.scale * (found if found.dim() == 1 else found.sum(0))
        if self.sft_weight:
            found = found + self.sft_weight * ranks(errors.policy, errors.width)[0]
        if self.dro_temperature:
            found = found * importance(found, self.group_size, self.dro_temperature, self.dro_trim)
        return found

    def _contrast(self, errors: Errors, beta: float) -> Logits:
        u = ranks(self.transform(errors, beta, self), errors.width)
        return self.contrast(u, errors.known, beta, self)

    def _linked(self, z: Tensor, label: Tensor | None) -> Tensor:
        """p·f(z) + (1−p)·f(−z), p the probability that the label is right."""
        link = LINKS[self.link]
        if label is None and not self.label_smoothing:
            return link(z)
        p: Tensor | float = 1.0 if label is None else label
        p = p * (1 - 2 * self.label_smoothing) + self.label_smoothing
        return p * link(z) + (1 - p) * link(-z)


def implicit_margin(errors: Errors) -> Tensor:
    """s_l − s_w of first and last picture, (B,): positive where the implicit reward ranks as the label.

    Of a single picture −s or s, as it is good or bad.
    """
    relative = ranks(errors.policy - reference_of(errors), errors.width)
    if errors.known.good is not None:
        return -relative[0] * errors.known.good
    return relative[-1] - relative[0]


def implicit_accuracy(margin: Tensor) -> Tensor:
    """Share of positive margins, a tie counted half; a scalar in [0, 1]."""
    return (margin.sign().float().mean() + 1) / 2
