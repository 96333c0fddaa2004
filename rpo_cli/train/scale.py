"""β in the conventions of public trainers, and a β from the reference's errors.

Ours is Salesforce's: h = −(β/2)[(m_w − r_w) − (m_l − r_l)], errors as means over C, H, W. diffusers' SD
script has no ½; SimpleTuner sums over C, H, W and keeps the ½.
"""

from dataclasses import dataclass
from math import prod
from statistics import fmean, pstdev

from rpo_cli.config import BetaFrom
from rpo_cli.train.objectives.errors import Errors, ranks
from rpo_cli.train.objectives.objective import SALESFORCE, Objective

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
