"""Transforms of errors and contrasts of items: what objectives are put together from.

z > 0 where the policy ranks as the label does. The ½ in −(β/2)·u is Salesforce's convention; diffusers' SD
script leaves it out and halves β instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from rpo_cli.errors import RpoError
from rpo_cli.train.objectives.objective import Errors, Known, ranks, reference_of, sides

if TYPE_CHECKING:
    from torch import Tensor

    from rpo_cli.train.objectives.objective import Logits, Objective


def winner_only(u: Tensor, known: Known, beta: float, objective: Objective) -> Logits:
    """z = u_w: no comparison."""
    return u[0], 1.0


def pair(u: Tensor, known: Known, beta: float, objective: Objective) -> Logits:
    """z = −(β/2)(u_w − u_l) − (1−α)γ."""
    margin = (1 - objective.reference_mix) * objective.margin
    return -0.5 * beta * (u[0] - u[1]) - margin, 1.0


def pair_reversed(u: Tensor, known: Known, beta: float, objective: Objective) -> Logits:
    """z of the pair with its sides exchanged: trains what to keep away from."""
    return pair(u.flip(0), known, beta, objective)


def unpaired(u: Tensor, known: Known, beta: float, objective: Objective) -> Logits:
    """z = w(v − Q), v = −(β/2)u, w = ±1, Q = max(0, mean v of the group), without gradient; (2, B).

    Each picture is judged against the group, not against its partner.
    """
    import torch

    reward = -0.5 * beta * u
    groups = reward.view(2, -1, objective.group_size)
    offset = groups.detach().mean(dim=(0, 2), keepdim=True).clamp(min=0)
    centred = (groups - offset).view_as(reward)
    share = 0.5 * torch.tensor([[objective.desirable_weight], [objective.undesirable_weight]])
    return centred * torch.tensor([[1.0], [-1.0]]).to(u), share.to(u)


def single(u: Tensor, known: Known, beta: float, objective: Objective) -> Logits:
    """`unpaired` for pictures without a partner: z = w(v − Q), (1, B); w = ±1 is `known.good`.

    Q is the mean over the group's pictures, good and bad together: the loss of `unpaired` where there are
    as many of either.
    """
    import torch

    assert known.good is not None
    reward = -0.5 * beta * u
    groups = reward.view(-1, objective.group_size)
    offset = groups.detach().mean(dim=1, keepdim=True).clamp(min=0)
    share = torch.where(known.good > 0, objective.desirable_weight, objective.undesirable_weight)
    return (groups - offset).view_as(reward) * known.good, share.to(u)


def relative(u: Tensor, known: Known, beta: float, objective: Objective) -> Logits:
    """z_ij = −(β/2) ω_ij (u_w,i − u_l,j) for all i, j of a group; (G, B), z[j, i].

    ω_ij = softmax_j(−(1 − cos(f_w,i, f_l,j))/τ): winners are compared most with losers that resemble them.
    """
    import torch

    assert known.features is not None
    size = objective.group_size
    winner, loser = u.view(2, -1, size)
    first, second = known.features.view(2, known.features.shape[1], -1, size)
    cosine = torch.einsum("dgi,dgj->gji", first, second)
    affinity = torch.softmax((cosine - 1) / objective.temperature, dim=1)
    z = -0.5 * beta * affinity * (winner[:, None, :] - loser[:, :, None])
    return z.transpose(0, 1).reshape(size, -1), 1 / size


def plackett_luce(u: Tensor, known: Known, beta: float, objective: Objective) -> Logits:
    """z_k = h_k − log Σ_{j>k} e^{h_j}, h = −(β/2)u, (K−1, B): −log σ of them adds up to −log PL.

    With K = 2 it is the pair.
    """
    import torch

    h = -0.5 * beta * u
    below = torch.stack([torch.logsumexp(h[k + 1 :], dim=0) for k in range(len(h) - 1)])
    return h[:-1] - below, 1.0


def gain_weighted(u: Tensor, known: Known, beta: float, objective: Objective) -> Logits:
    """Every pair i ≻ j of a list, with the change of DCG that its exchange would make as its share.

    |G_i − G_j|·|1/D_i − 1/D_j|, G = 2^gain − 1, D = log(1 + rank), ranks from 1; (K(K−1)/2, B).
    """
    import torch

    assert known.gains is not None
    better, worse = torch.triu_indices(len(u), len(u), offset=1)
    gain = torch.exp2(known.gains) - 1
    discount = 1 / torch.log(torch.arange(len(u), device=u.device) + 2.0)
    share = (gain[better] - gain[worse]).abs() * (discount[better] - discount[worse]).abs()[:, None]
    return -0.5 * beta * (u[better] - u[worse]), share


MAPO_STEEPNESS = 0.5  # s of g(m); `--snr_value` of mapo-t2i/mapo
EXPONENT_LIMIT = 20.0


def own_error(errors: Errors, beta: float, objective: Objective) -> Tensor:
    """u = m."""
    return errors.policy


def relative_error(errors: Errors, beta: float, objective: Objective) -> Tensor:
    """u = m − αr: with α = 1 negative where the policy denoises better than the reference.

    Raises:
        RpoError: the errors were made without a reference.
    """
    mix = objective.reference_mix
    return errors.policy if mix == 0 else errors.policy - mix * reference_of(errors)


def divergence(errors: Errors, beta: float, objective: Objective) -> Tensor:
    """u = −(2/β)·g(ℓ), ℓ = −(β/2)(m − r): the f-DPO reward of a divergence."""
    log_ratio = -0.5 * beta * (errors.policy - reference_of(errors))
    g = DIVERGENCES[objective.divergence](log_ratio, objective.divergence_alpha)
    return (-2 / beta) * g


def reverse_kl(log_ratio: Tensor, alpha: float) -> Tensor:
    """g = ℓ: ordinary DPO."""
    return log_ratio


def forward_kl(log_ratio: Tensor, alpha: float) -> Tensor:
    """g = −e^{−ℓ}; ℓ is held at −20 and above."""
    import torch

    return -torch.exp(-log_ratio.clamp(min=-EXPONENT_LIMIT))


def jensen_shannon(log_ratio: Tensor, alpha: float) -> Tensor:
    """g = ℓ + log 2 − softplus(ℓ)."""
    import torch

    return log_ratio + math.log(2) - torch.nn.functional.softplus(log_ratio)


def alpha_divergence(log_ratio: Tensor, alpha: float) -> Tensor:
    """g = (1 − e^{−αℓ})/α, 0 < α ≤ 1: reverse KL as α → 0, forward KL at 1."""
    import torch

    return -torch.expm1(-(alpha * log_ratio).clamp(min=-EXPONENT_LIMIT)) / alpha


DIVERGENCES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "reverse-kl": reverse_kl,
    "forward-kl": forward_kl,
    "jensen-shannon": jensen_shannon,
    "alpha": alpha_divergence,
}


def mapo_score(errors: Errors, beta: float, objective: Objective) -> Tensor:
    """u = −2·g(m), g(m) = sm/(e^{sm} − 1), which falls from 1 at m = 0; no reference.

    Written with e^{−sm}, which does not overflow.
    """
    import torch

    exponent = MAPO_STEEPNESS * errors.policy
    tiny = exponent.abs() < 1e-6  # 0/0 at 0; there g = 1 − x/2 to float32's precision
    safe = torch.where(tiny, torch.ones_like(exponent), exponent)
    return -2 * torch.where(tiny, 1 - exponent / 2, safe * torch.exp(-safe) / -torch.expm1(-safe))


def dspo_residual(errors: Errors, beta: float, objective: Objective) -> Tensor:
    """u_w = mean(((1−c)(ε_θ−ε) + c(ε_ref−ε))²), c = β(1 − σ(h)) without gradient; the losers' u is m.

    Raises:
        RpoError: the errors were made without cross terms.
    """
    import torch

    if errors.cross is None:
        raise RpoError("this objective needs the cross term", "report this: the loop left it out")
    reference = reference_of(errors)
    winner, loser = sides(errors.policy - reference)
    doubt = torch.sigmoid(0.5 * beta * (winner - loser)).detach()  # 1 − σ(h)
    c = torch.cat([beta * doubt, torch.zeros_like(doubt)])
    return (1 - c).square() * errors.policy + 2 * c * (1 - c) * errors.cross + c.square() * reference


def log_ratios(errors: Errors) -> Tensor:
    """ℓ, (2, B): log-ratio per element of one denoising step under policy and reference.

    −½(SNR_{t−1}/SNR_t − 1)(m − r): offline pairs have no trajectory, so this is the step's expectation.
    """
    assert errors.known.ratio is not None
    return -0.5 * errors.known.ratio * ranks(errors.policy - reference_of(errors))


def pessimistic_clip(errors: Errors, beta: float, objective: Objective) -> Tensor:
    """u = −2ℓ̃, ℓ̃_w = min(ℓ_w, log(1+ϵ)), ℓ̃_l = max(ℓ_l, log(1−ϵ)): PPO's min, per image.

    A side stops teaching only where it has already moved the right way beyond the band.
    """
    import torch

    winner, loser = log_ratios(errors)
    clip = objective.clip
    return -2 * torch.cat([winner.clamp(max=math.log1p(clip)), loser.clamp(min=math.log1p(-clip))])


def bare_clamp(errors: Errors, beta: float, objective: Objective) -> Tensor:
    """u = −2·clamp(ℓ, log(1−ϵ), log(1+ϵ)), as D3PO and SPO ship it.

    A side that has moved the wrong way beyond the band gets no gradient back.
    """
    clip = objective.clip
    return -2 * log_ratios(errors).clamp(math.log1p(-clip), math.log1p(clip)).reshape(-1)


def clipped_shares(errors: Errors, objective: Objective) -> dict[str, Tensor]:
    """Share of items beyond the band, by side and by direction: "good" is the way the loss pulls."""
    winner, loser = log_ratios(errors)
    above, below = math.log1p(objective.clip), math.log1p(-objective.clip)
    return {
        "winner_beyond_good": (winner > above).float().mean(),
        "winner_beyond_bad": (winner < below).float().mean(),
        "loser_beyond_good": (loser < below).float().mean(),
        "loser_beyond_bad": (loser > above).float().mean(),
    }
