"""Objectives: pure functions on per-image denoising errors, un-reduced.

    per-image transform u(m, r)  →  contrast z(u_w, u_l)  →  link f(weight · z)

m is the policy's error and r the reference's, each the MEAN over C, H, W on the model's own target, in
float32. To add an objective: write the function that is new, add an `Objective` that names its four
parts, one line in `registry.objectives` and one row with a hand-computed value in the tests.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from rpo_cli.errors import RpoError


@dataclass(frozen=True)
class Errors:
    """Denoising errors of B pairs: (2B,) float32, the B winners first, then their losers in order."""

    policy: Tensor
    reference: Tensor | None


@dataclass(frozen=True)
class Objective:
    """One training objective and what it needs.

    Attributes:
        default_beta: None where the objective has no such scale.
        beta_unit: what beta multiplies, for the line printed at the start.
        source: paper and public code that define it.
    """

    name: str
    transform: Callable[[Errors], Tensor]
    contrast: Callable[[Tensor, Tensor, float], Tensor]
    link: Callable[[Tensor], Tensor]
    needs_reference: bool
    default_beta: float | None
    beta_unit: str
    source: str

    def logits(self, errors: Errors, beta: float) -> Tensor:
        """z before the weight, (B,). For a pair objective z > 0 means that the winner is preferred."""
        winner, loser = sides(self.transform(errors))
        return self.contrast(winner, loser, beta)

    def losses(self, errors: Errors, beta: float, weight: Tensor | None = None) -> Tensor:
        """One loss per pair, (B,); `weight` (B,) multiplies z inside the link, 1 for all when None."""
        z = self.logits(errors, beta)
        return self.link(z if weight is None else weight * z)


def sides(values: Tensor) -> tuple[Tensor, Tensor]:
    """(2B,) → winners (B,), losers (B,)."""
    winner, loser = values.chunk(2)
    return winner, loser


def own_error(errors: Errors) -> Tensor:
    """u = m."""
    return errors.policy


def relative_error(errors: Errors) -> Tensor:
    """u = s = m − r: negative where the policy denoises better than the reference.

    Raises:
        RpoError: the errors were made without a reference.
    """
    if errors.reference is None:
        raise RpoError("this objective needs the reference's errors", "report this: the loop left them out")
    return errors.policy - errors.reference


def winner_only(winner: Tensor, loser: Tensor, beta: float) -> Tensor:
    """z = u_w."""
    return winner


def pair_logit(winner: Tensor, loser: Tensor, beta: float) -> Tensor:
    """h = −(β/2)(u_w − u_l).

    The ½ is Salesforce's convention; diffusers' SD script leaves it out and halves β instead.
    """
    return -0.5 * beta * (winner - loser)


def identity(z: Tensor) -> Tensor:
    return z


def logistic(z: Tensor) -> Tensor:
    """−log σ(z), without the overflow of log(sigmoid(z))."""
    return -logsigmoid(z)


def implicit_margin(errors: Errors) -> Tensor:
    """s_l − s_w, (B,): positive where the implicit reward ranks the pair as its label does."""
    winner, loser = sides(relative_error(errors))
    return loser - winner


def implicit_accuracy(margin: Tensor) -> Tensor:
    """Share of positive margins, a tie counted half; a scalar in [0, 1]."""
    return (margin.sign().float().mean() + 1) / 2


DPO = Objective(
    name="dpo",
    transform=relative_error,
    contrast=pair_logit,
    link=logistic,
    needs_reference=True,
    default_beta=5000.0,
    beta_unit="logits per 2 units of denoising error, errors as means over C,H,W (Salesforce's β)",
    source="Wallace et al. 2023, arXiv:2311.12908; SalesforceAIResearch/DiffusionDPO train.py",
)

SFT = Objective(
    name="sft",
    transform=own_error,
    contrast=winner_only,
    link=identity,
    needs_reference=False,
    default_beta=None,
    beta_unit="not used",
    source="Wallace et al. 2023, arXiv:2311.12908, baseline; `--sft` of DiffusionDPO train.py",
)
