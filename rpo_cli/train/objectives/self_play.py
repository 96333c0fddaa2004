"""Methods that learn from winners alone: rounds make the losers with the policy (`line/rounds/train.py`)."""

from rpo_cli.train.objectives.contrasts import pair
from rpo_cli.train.objectives.objective import LABELS, MOVING, SALESFORCE, TIMESTEPS, WEIGHTS, Objective
from rpo_cli.train.objectives.transforms import relative_error

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
