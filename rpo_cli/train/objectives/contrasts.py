"""Contrasts: per-image u, (K, B) → logits z, (B,) or (n, B), and the share of each in an item's loss.

z > 0 where the policy ranks as the label does. The ½ in −(β/2)·u is Salesforce's convention; diffusers' SD
script leaves it out and halves β instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rpo_cli.train.objectives.errors import Known

if TYPE_CHECKING:
    from torch import Tensor

    from rpo_cli.train.objectives.objective import Objective

    Logits = tuple[Tensor, Tensor | float]


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
