"""Published methods as points in one space: each names its parts, numbers and what may be changed.

Unless it says otherwise, β is Salesforce's (see `objective.SALESFORCE`).
"""

from rpo_cli.train.contrasts import (
    gain_weighted,
    pair,
    pair_reversed,
    plackett_luce,
    relative,
    unpaired,
    winner_only,
)
from rpo_cli.train.objective import LABELS, MOVING, SALESFORCE, TIMESTEPS, WEIGHTS, Objective
from rpo_cli.train.transforms import (
    bare_clamp,
    divergence,
    dspo_residual,
    mapo_score,
    pessimistic_clip,
    relative_error,
)

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
    open=(*WEIGHTS, *LABELS, *MOVING),
    timestep_discount=0.9,
)

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
    needs="a reference; columns rewards_0, rewards_1; list_size pictures a prompt",
    open=(*TIMESTEPS, "sft_weight", "list_size", *MOVING),
    list_size=4,
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
    default_beta=5e5,
    beta_unit=RATIO_UNIT,
    source="PPOD, ICLR 2024 submission; PPO's min per image, Schulman et al. 2017, arXiv:1707.06347",
    open=(*WEIGHTS, *LABELS, "link", "clip", "ratio_base", *MOVING),
    clip=2e-6,  # β·2ϵ = 2: the logit's bound is that of SPO
)

PPOD_CLAMPED = Objective(
    name="ppod-clamped",
    summary="PPOD with the bare clamp: a side beyond ϵ either way stops teaching, also one gone wrong.",
    transform=bare_clamp,
    contrast=pair,
    link="logistic",
    needs_reference=True,
    default_beta=5e5,
    beta_unit=RATIO_UNIT,
    source="Yang et al. 2023, arXiv:2311.13231; yk7333/d3po scripts/train.py; RockeyCoss/SPO",
    open=(*WEIGHTS, *LABELS, "link", "clip", "ratio_base", *MOVING),
    clip=2e-6,
)
