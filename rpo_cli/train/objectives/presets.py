"""Published methods as points in one space: each names its parts, numbers and what may be changed.

Unless it says otherwise, β is Salesforce's (see `objective.SALESFORCE`).
"""

from rpo_cli.train.objectives.components import (
    bare_clamp,
    divergence,
    dspo_residual,
    mapo_score,
    own_error,
    pair,
    pair_reversed,
    pessimistic_clip,
    relative_error,
    winner_only,
)
from rpo_cli.train.objectives.objective import LABELS, MOVING, SALESFORCE, TIMESTEPS, WEIGHTS, Objective

RATIO_UNIT = "logits per unit of the per-element log-ratio of one denoising step"

IPO = Objective(
    name="ipo",
    summary="DPO with the squared link (z − ½)²: a finite margin is the aim.",
    transform=relative_error,
    contrast=pair,
    link="ipo",
    needs_reference=True,
    default_beta=5000.0,
    beta_unit=SALESFORCE,
    source="Azar et al. 2023, arXiv:2310.12036",
    formula="z = -beta/2 * ((m_w - r_w) - (m_l - r_l))\nL = E[(z - 1/2)**2]",
    equation="IPO's (h - 1/(2 beta))^2, times beta^2, on the logit of arXiv:2311.12908, eq. 14",
    open=(*WEIGHTS, *LABELS, *MOVING),
)

SLIC = Objective(
    name="slic",
    summary="DPO with the hinge max(0, 1 − z).",
    transform=relative_error,
    contrast=pair,
    link="slic",
    needs_reference=True,
    default_beta=5000.0,
    beta_unit=SALESFORCE,
    source="Zhao et al. 2023, arXiv:2305.10425",
    formula="z = -beta/2 * ((m_w - r_w) - (m_l - r_l))\nL = E[max(0, 1 - z)]",
    equation="the hinge of arXiv:2305.10425 on the logit of arXiv:2311.12908, eq. 14",
    open=(*WEIGHTS, *LABELS, *MOVING),
)

F_DPO = Objective(
    name="f-dpo",
    summary="DPO under an f-divergence: each side's log-ratio goes through g before the difference.",
    transform=divergence,
    contrast=pair,
    link="logistic",
    needs_reference=True,
    default_beta=5000.0,
    beta_unit=SALESFORCE,
    source="Wang et al. 2023, arXiv:2309.16240, on per-image log-ratios",
    formula=(
        "l_w, l_l = -beta/2 * (m_w - r_w), -beta/2 * (m_l - r_l)\n"
        "g_w, g_l = l_w + log(2) - log(1 + exp(l_w)), l_l + log(2) - log(1 + exp(l_l))\n"
        "L = E[-log(sigma(g_w - g_l))]"
    ),
    equation="the f-DPO loss of arXiv:2309.16240; g here is that of the Jensen-Shannon divergence",
    open=(*WEIGHTS, *LABELS, "divergence", "divergence_alpha", *MOVING),
    divergence="jensen-shannon",
)

MAPO = Objective(
    name="mapo",
    summary="Margin-aware and reference-free: the winner's error plus a margin of bounded scores.",
    transform=mapo_score,
    contrast=pair,
    link="logistic",
    needs_reference=False,
    default_beta=1000.0,
    beta_unit="logits per unit of g(m) = sm/(e^sm − 1), s = 0.5; MaPO's T",
    source="Hong et al. 2024, arXiv:2406.06424; mapo-t2i/mapo utils.py",
    formula=(
        "g_w, g_l = s*m_w / (exp(s*m_w) - 1), s*m_l / (exp(s*m_l) - 1)\n"
        "L = E[m_w - scale * log(sigma(beta * (g_w - g_l)))]\n"
        "s: 0.5"
    ),
    equation="mapo-t2i/mapo utils.py",
    needs="no reference",
    open=(*WEIGHTS, *LABELS, "scale"),
    scale=0.1,
    sft_weight=1.0,
)

RAINBOW = Objective(
    name="rainbow",
    summary="Every part of a pair loss open: link, mixed reference, home advantage, weight, SFT term.",
    transform=relative_error,
    contrast=pair,
    link="logistic",
    needs_reference=True,
    default_beta=100.0,  # with α < 1 the pair's raw errors are in the logit, and they differ more
    beta_unit=SALESFORCE,
    source="Zhao et al. 2024, arXiv:2410.04203; CapitalOne-Research/RainbowPO",
    formula=(
        "z = -beta/2 * ((m_w - alpha*r_w) - (m_l - alpha*r_l)) - (1 - alpha) * gamma\n"
        "L = E[-log(sigma(phi * z))]\n"
        "alpha: reference_mix; gamma: margin; phi: of the pair, -log(dispersion) by default, mean 1"
    ),
    equation="CapitalOne-Research/RainbowPO, the margin in logits",
    needs="a reference; column dispersion",
    open=(*WEIGHTS, *LABELS, "link", "reference_mix", "margin", "scale", *MOVING),
    reference_mix=0.25,
    margin=1.0,
    pair_weight="dispersion",
)

SMPO = Objective(
    name="smpo",
    summary="DPO whose logit is scaled by 10(2p − 1), p from the reward margin; p = ½ teaches nothing.",
    transform=relative_error,
    contrast=pair,
    link="logistic",
    needs_reference=True,
    default_beta=2000.0,
    beta_unit=SALESFORCE,
    source="SmPO-Diffusion, arXiv:2506.02698, without its renoise inversion",
    formula=(
        "z = -beta/2 * ((m_w - r_w) - (m_l - r_l))\n"
        "L = E[-log(sigma(phi * z))]\n"
        "phi: 10 * (2p - 1), p = sigma(margin)"
    ),
    equation="arXiv:2506.02698: the soft label multiplies beta",
    needs="a reference; column margin",
    open=(*TIMESTEPS, *LABELS, *MOVING),
    pair_weight="smooth-margin",
)

NPO = Objective(
    name="npo",
    summary="DPO with the sides exchanged: weights for the negative branch of guidance.",
    transform=relative_error,
    contrast=pair_reversed,
    link="logistic",
    needs_reference=True,
    default_beta=1000.0,  # 500 without the ½
    beta_unit=SALESFORCE,
    source="Diffusion-NPO, ICLR 2025, https://github.com/G-U-N/Diffusion-NPO",
    formula="z = -beta/2 * ((m_l - r_l) - (m_w - r_w))\nL = E[-log(sigma(z))]",
    equation="arXiv:2311.12908, eq. 14, winner and loser exchanged; G-U-N/Diffusion-NPO",
    open=(*WEIGHTS, *LABELS, *MOVING),
)

MALLOWS = Objective(
    name="mallows",
    summary="DPO weighted by −log of the prompt's dispersion: disputed prompts teach less.",
    transform=relative_error,
    contrast=pair,
    link="logistic",
    needs_reference=True,
    default_beta=5000.0,
    beta_unit=SALESFORCE,
    source="Chen et al. 2024, arXiv:2405.14953, with judges of images in place of token entropy",
    formula=(
        "z = -beta/2 * ((m_w - r_w) - (m_l - r_l))\n"
        "L = E[-log(sigma(phi * z))]\n"
        "phi: -log(dispersion) of the prompt, scaled to a mean of 1 and held in [0.2, 5]"
    ),
    equation="Mallows-theta of arXiv:2405.14953; its -2 log(dispersion) is phi",
    needs="a reference; column dispersion",
    open=(*TIMESTEPS, *LABELS, *MOVING),
    pair_weight="dispersion",
)

DENSE = Objective(
    name="dense",
    summary="DPO at timesteps drawn with a temporal discount: noisy steps set the layout and count most.",
    transform=relative_error,
    contrast=pair,
    link="logistic",
    needs_reference=True,
    default_beta=5000.0,
    beta_unit=SALESFORCE,
    source="Yang et al. 2024, arXiv:2402.08265, carried over to offline pairs",
    formula=(
        "z = -beta/2 * ((m_w - r_w) - (m_l - r_l))\n"
        "L = E[-log(sigma(z))]\n"
        "t: drawn in proportion to gamma**(50 * (1 - t/T)), gamma: timestep_discount"
    ),
    equation="arXiv:2311.12908, eq. 14, with the discount of arXiv:2402.08265",
    open=(*WEIGHTS, *LABELS, *MOVING),
    timestep_discount=0.9,
)

DSPO = Objective(
    name="dspo",
    summary="The winner's error with the prediction pulled to the reference by c = β(1 − σ(h)).",
    transform=dspo_residual,
    contrast=winner_only,
    link="identity",
    needs_reference=True,
    default_beta=0.001,
    beta_unit="β of c = β(1 − σ(h)), the share of the reference in the residual",
    source="Zhu et al., ICLR 2025; huaishengzhu/DSPO train.py (SD1.5), https://github.com/huaishengzhu/DSPO",
    formula=(
        "c = beta * (1 - sigma(-beta/2 * ((m_w - r_w) - (m_l - r_l))))\n"
        "L = E[(1 - c)**2 * m_w + 2*c*(1 - c) * x_w + c**2 * r_w]\n"
        "x: mean product of the policy's and the reference's error; c: without gradient"
    ),
    equation="huaishengzhu/DSPO train.py (SD1.5)",
    needs="a reference, and its cross term",
    open=(*WEIGHTS, *MOVING),
    needs_cross=True,
)

PPOD = Objective(
    name="ppod",
    summary="Proximal, offline: a side that has moved the right way beyond ϵ stops teaching.",
    transform=pessimistic_clip,
    contrast=pair,
    link="logistic",
    needs_reference=True,
    default_beta=4e5,
    beta_unit=RATIO_UNIT,
    source="PPOD, ICLR 2024 submission; PPO's min per image, Schulman et al. 2017, arXiv:1707.06347",
    formula=(
        "l_w, l_l = -k/2 * (m_w - r_w), -k/2 * (m_l - r_l)\n"
        "z = beta * (min(l_w, log(1 + eps)) - max(l_l, log(1 - eps)))\n"
        "L = E[-log(sigma(z))]\n"
        "k: SNR(t-1)/SNR(t) - 1, for errors of epsilon; eps: clip"
    ),
    equation="ours, with PPO's min: arXiv:1707.06347, eq. 7",
    open=(*WEIGHTS, *LABELS, "link", "clip", "ratio_base", *MOVING),
    clip=2.5e-6,  # β·2ϵ = 2: the logit's bound is that of SPO
)

PPOD_CLAMPED = Objective(
    name="ppod-clamped",
    summary="PPOD with the bare clamp: a side beyond ϵ either way stops teaching, also one gone wrong.",
    transform=bare_clamp,
    contrast=pair,
    link="logistic",
    needs_reference=True,
    default_beta=4e5,
    beta_unit=RATIO_UNIT,
    source="Yang et al. 2023, arXiv:2311.13231; yk7333/d3po scripts/train.py; RockeyCoss/SPO",
    formula=(
        "l_w, l_l = -k/2 * (m_w - r_w), -k/2 * (m_l - r_l)\n"
        "z = beta * (clip(l_w, log(1 - eps), log(1 + eps)) - clip(l_l, log(1 - eps), log(1 + eps)))\n"
        "L = E[-log(sigma(z))]\n"
        "k: SNR(t-1)/SNR(t) - 1, for errors of epsilon; eps: clip"
    ),
    equation="the clamp of yk7333/d3po scripts/train.py",
    open=(*WEIGHTS, *LABELS, "link", "clip", "ratio_base", *MOVING),
    clip=2.5e-6,
)


SPIN = Objective(
    name="spin",
    summary="The dataset's winners against pictures of the policy of the round before, the reference.",
    transform=relative_error,
    contrast=pair,
    link="logistic",
    needs_reference=True,
    default_beta=5000.0,
    beta_unit=SALESFORCE,
    source="Chen et al. 2024, arXiv:2401.01335; Yuan et al. 2024, arXiv:2402.10210; uclaml/SPIN-Diffusion",
    formula=(
        "z = -beta/2 * ((m_w - r_w) - (m_l - r_l))\n"
        "L = E[-log(sigma(z))]\n"
        "l: pictures of the reference, the policy of the round before"
    ),
    equation="arXiv:2311.12908, eq. 14, on the opponent of arXiv:2402.10210",
    needs="a reference, of the round before; winners of RUN/dataset; --rounds",
    losers="generated",
    open=(*TIMESTEPS, "label_smoothing", "sft_weight", "link"),
)

SAPO = Objective(
    name="sapo",
    summary="The dataset's winners against themselves, partly noised and made anew by an averaged policy.",
    transform=relative_error,
    contrast=pair,
    link="logistic",
    needs_reference=True,
    default_beta=5000.0,
    beta_unit=SALESFORCE,
    source="Yin et al. 2024, arXiv:2405.20830; yinyueqin/SAPO; segments of text become strengths of noise",
    formula=(
        "z = -beta/2 * ((m_w - r_w) - (m_l - r_l))\n"
        "L = E[-log(sigma(z))]\n"
        "l: the winner noised in part and made anew; r: of an average of the policy"
    ),
    equation="arXiv:2311.12908, eq. 14, on the opponent of arXiv:2405.20830",
    needs="a reference that follows the policy; winners of RUN/dataset; --rounds",
    losers="renoised",
    open=(*WEIGHTS, *LABELS, *MOVING),
    reference_every=1,
    reference_decay=0.992,
)


DPO = Objective(
    name="dpo",
    summary="Diffusion-DPO: the logistic loss of a pair's reference-relative errors.",
    transform=relative_error,
    contrast=pair,
    link="logistic",
    needs_reference=True,
    default_beta=5000.0,
    beta_unit=SALESFORCE,
    source="Wallace et al. 2023, arXiv:2311.12908; SalesforceAIResearch/DiffusionDPO train.py",
    formula="z = -beta/2 * ((m_w - r_w) - (m_l - r_l))\nL = E[-log(sigma(z))]",
    equation="arXiv:2311.12908, eq. 14: its beta T omega on sums is beta/2 on means in their train.py",
    open=(*WEIGHTS, *LABELS, *MOVING),
)


SFT = Objective(
    name="sft",
    summary="Fine-tuning on the winners alone: the baseline of every preference method.",
    transform=own_error,
    contrast=winner_only,
    link="identity",
    needs_reference=False,
    default_beta=None,
    beta_unit="not used",
    source="Wallace et al. 2023, arXiv:2311.12908, baseline; `--sft` of DiffusionDPO train.py",
    formula="L = E[m_w]",
    equation="`--sft` of DiffusionDPO train.py",
    needs="winners only",
    open=WEIGHTS,
)
