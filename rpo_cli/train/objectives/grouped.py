"""Published methods whose items depend on more than one pair: groups of a batch, and ranked lists."""

from rpo_cli.train.objectives.components import (
    gain_weighted,
    pair,
    plackett_luce,
    relative,
    relative_error,
    unpaired,
)
from rpo_cli.train.objectives.objective import LABELS, MOVING, SALESFORCE, TIMESTEPS, WEIGHTS, Objective

IR_DRO = Objective(
    name="ir-dro",
    summary="DPO reweighted within groups of one timestep towards hard pairs, the hardest left out.",
    transform=relative_error,
    contrast=pair,
    link="logistic",
    needs_reference=True,
    default_beta=5000.0,
    beta_unit=SALESFORCE,
    source="IR-DRO, arXiv:2402.14270; VITA-Group/HardFocusTraining",
    formula=(
        "z = -beta/2 * ((m_w - r_w) - (m_l - r_l))\n"
        "L = E[-omega * log(sigma(z))]\n"
        "omega: exp(loss/lambda) over its sum in the group, times the group's size; 0 for the hardest"
    ),
    equation="kl_reg (lambda) of VITA-Group/HardFocusTraining; the closed form of arXiv:2402.14270",
    needs="a reference; groups",
    open=(*WEIGHTS, *LABELS, "group_size", "dro_temperature", "dro_trim", *MOVING),
    group_size=8,
    shared="timestep",
    dro_temperature=1.0,
    dro_trim=0.125,
)

KTO = Objective(
    name="kto",
    summary="Each picture judged good or bad against its group, not against its partner.",
    transform=relative_error,
    contrast=unpaired,
    link="utility",
    needs_reference=True,
    default_beta=2000.0,  # 1000 without the ½
    beta_unit=SALESFORCE,
    source="Li et al. 2024, arXiv:2404.04465; jacklishufan/diffusion-kto train_kto_sd_v1.5.py",
    formula=(
        "v_w, v_l = -beta/2 * (m_w - r_w), -beta/2 * (m_l - r_l)\n"
        "L = E[1/2 * (1 - sigma(v_w - Q)) + 1/2 * (1 - sigma(Q - v_l))]\n"
        "Q: max(0, mean of v over the group's winners and losers), without gradient"
    ),
    equation="arXiv:2404.04465; diffusion-kto train_kto_sd_v1.5.py",
    needs="a reference; groups",
    open=(*WEIGHTS, "sft_weight", "group_size", "desirable_weight", "undesirable_weight", *MOVING),
    group_size=8,
)

RELATIVE = Objective(
    name="relative",  # its weights add up to 1 over a group, so one pair's logit is that of a part of β
    summary="Every winner of a group against every loser, weighted by how alike prompt and picture are.",
    transform=relative_error,
    contrast=relative,
    link="logistic",
    needs_reference=True,
    default_beta=5000.0,
    beta_unit=SALESFORCE,
    source="Gu et al. 2024, arXiv:2406.06382; weights as in yinyueqin/relative-preference-optimization",
    formula=(
        "z_ij = -beta/2 * omega_ij * ((m_wi - r_wi) - (m_lj - r_lj))\n"
        "L = E[mean over j of -log(sigma(z_ij))]\n"
        "omega_ij: softmax over j of -(1 - cos(f_wi, f_lj)) / temperature, f: CLIP features"
    ),
    equation="arXiv:2406.06382; the place of omega is that of yinyueqin/relative-preference-optimization",
    needs="a reference; groups; an embedder (CLIP)",
    open=(*WEIGHTS, "sft_weight", "group_size", "temperature", *MOVING),
    group_size=8,
    shared="noise",
    needs_embedder=True,
)

PLACKETT_LUCE = Objective(
    name="plackett-luce",
    summary="Ranked lists of one prompt's pictures under the Plackett–Luce model; lists of two give DPO.",
    transform=relative_error,
    contrast=plackett_luce,
    link="logistic",
    needs_reference=True,
    default_beta=5000.0,
    beta_unit=SALESFORCE,
    source="listMLE, Xia et al. 2008; for diffusion Yang et al. 2024, arXiv:2402.08265",
    formula=(
        "h_k = -beta/2 * (m_k - r_k), k = 1 the best of K pictures\n"
        "L = E[sum over k < K of -log(exp(h_k) / sum over j >= k of exp(h_j))]"
    ),
    equation="listMLE, as in Shentao-YANG/Dense_Reward_T2I",
    needs="a reference; columns rewards_0, rewards_1; list_size pictures a prompt",
    open=(*TIMESTEPS, "sft_weight", "list_size", *MOVING),
    list_size=4,
)

RANK_DPO = Objective(
    name="rank-dpo",
    summary="All pairs of a ranked list, each weighted by the change of DCG that exchanging it would make.",
    transform=relative_error,
    contrast=gain_weighted,
    link="logistic",
    needs_reference=True,
    default_beta=5000.0,
    beta_unit=SALESFORCE,
    source="Karthik et al. 2024, arXiv:2410.18013",
    formula=(
        "h_i = -beta/2 * (m_i - r_i), i = 1 the best\n"
        "L = E[sum over i < j of |G_i - G_j| * |1/D_i - 1/D_j| * -log(sigma(h_i - h_j))]\n"
        "G: 2**gain - 1; D: log(1 + rank)"
    ),
    equation="the loss of arXiv:2410.18013",
    needs="a reference; columns rewards_0, rewards_1; list_size pictures a prompt",
    open=(*TIMESTEPS, "sft_weight", "list_size", *MOVING),
    list_size=4,
)
