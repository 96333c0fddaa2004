"""The formula that `rpo list objectives NAME` prints is what the code computes."""

import math
import re
from dataclasses import replace

import pytest
import torch

from rpo_cli import registry
from rpo_cli.train.objectives.components import MAPO_STEEPNESS
from rpo_cli.train.objectives.objective import Errors, Known
from rpo_cli.train.online.losses import losses as online_losses
from tests.closeness import assert_close
from tests.docs.pages import ROOT

# said in words: sums over groups, lists or steps
IN_WORDS = {"relative", "plackett-luce", "rank-dpo", "ppod-online"}
WINNER, LOSER, REF_WINNER, REF_LOSER, CROSS = 0.31, 0.42, 0.35, 0.37, 0.3
PHI, RATIO, ADVANTAGE, KL = 1.7, 0.02, -1.3, 0.2


class Mean:
    """E[...] of one item."""

    def __getitem__(self, value):
        return value


FUNCTIONS = {
    "E": Mean(),
    "log": math.log,
    "exp": math.exp,
    "min": min,
    "max": max,
    "clip": lambda value, low, high: min(max(value, low), high),
    "sigma": lambda z: 1 / (1 + math.exp(-z)),
}


def computed(formula, **letters):
    """L by the lines of a formula that are statements; a line with a colon explains letters."""
    known = {**FUNCTIONS, **letters}
    for line in formula.splitlines():
        if ": " not in line:
            exec(line, {}, known)
    return known["L"]


@pytest.mark.parametrize("name", registry.names("objectives"))
def test_every_method_has_a_formula_in_ascii_and_says_where_it_stands(name):
    """Any terminal can show it, and a paper or public script can be held beside it."""
    objective = registry.load("objectives", name)

    assert objective.formula.isascii()
    assert "L = E[" in objective.formula
    assert objective.equation.isascii()
    assert objective.equation


@pytest.mark.parametrize("name", sorted(registry.objectives.keys() - IN_WORDS))
@pytest.mark.parametrize(("beta", "clip"), [(3.0, 1e-3), (0.4, 1e-4)])
def test_a_formula_on_errors_computes_the_loss(name, beta, clip):
    """Of one pair, within the band of a ratio and beyond it; weight, ratio and group are given."""
    found = registry.load("objectives", name)
    objective = replace(found, group_size=1, clip=clip if found.clip else 0.0, dro_trim=0.0)
    weighed = objective.pair_weight != "none"
    known = Known(weight=torch.tensor([PHI]) if weighed else None, ratio=torch.tensor([RATIO]))
    cross = torch.tensor([CROSS, 0.0])
    errors = Errors(
        torch.tensor([WINNER, LOSER]), torch.tensor([REF_WINNER, REF_LOSER]), cross=cross, known=known
    )

    said = computed(
        objective.formula,
        m_w=WINNER,
        m_l=LOSER,
        r_w=REF_WINNER,
        r_l=REF_LOSER,
        x_w=CROSS,
        beta=beta,
        alpha=objective.reference_mix,
        gamma=objective.margin,
        scale=objective.scale,
        eps=objective.clip,
        s=MAPO_STEEPNESS,
        phi=PHI,
        k=RATIO,
        omega=1.0,
        Q=max(0.0, -beta / 2 * (WINNER - REF_WINNER + LOSER - REF_LOSER) / 2),
    )

    assert_close(objective.losses(errors, beta), torch.tensor([said]))


@pytest.mark.parametrize("log_ratios", [(0.02, -0.03), (-0.4, 0.3), (0.3, -0.4)])
@pytest.mark.parametrize("name", sorted(registry.online_objectives.keys() - IN_WORDS))
def test_a_formula_on_steps_computes_the_loss(name, log_ratios):
    """Within the band and beyond it, either way; the KL of a step is added by the loop."""
    objective = registry.load("objectives", name)
    winner, loser = log_ratios
    ratio = torch.tensor(log_ratios if objective.paired else log_ratios[:1]).reshape(1, -1, 1)
    beta = objective.default_beta or 0.0

    said = computed(
        objective.formula,
        l=winner,
        l_w=winner,
        l_l=loser,
        A=ADVANTAGE,
        eps=objective.clip,
        beta=beta,
        KL=KL,
    )

    penalty = beta * KL if objective.penalty == "step KL" else 0.0
    found = online_losses(objective, ratio, torch.tensor([[ADVANTAGE]]), beta) + penalty
    assert_close(found, torch.tensor([[said]]))


PLACES = {f"rpo_cli/train/objectives/{name}.py" for name in ("presets", "grouped", "online")}
CODE = {
    f"rpo_cli/train/objectives/{name}.py" for name in ("components", "objective")
}  # what they are made of
EXAMPLE = {"rpo_cli/docs/extending.md"}  # an objective that is no preset
# winner and loser of one letter with a sign between them, or the logarithm of a sigmoid
REPEATED = re.compile(r"\b([a-zω])_w\b[^\n,]*[-−+*·/][^\n]*\b\1_l\b|log ?\(?(σ|sigma)\b")


def shipped():
    """Every text that an install has, and the README."""
    for pattern in ("rpo_cli/**/*.py", "rpo_cli/**/*.md", "prompts/**/*.txt", "README.md"):
        yield from sorted(ROOT.glob(pattern))


def test_no_other_file_repeats_the_formula_of_a_preset():
    """It stands whole in one place; a second one in other words would go its own way."""
    found = {str(path.relative_to(ROOT)) for path in shipped() if REPEATED.search(path.read_text("utf-8"))}

    assert found >= PLACES - {"rpo_cli/train/objectives/online.py"}
    assert found - PLACES - CODE - EXAMPLE == set()


@pytest.mark.parametrize(
    "line",
    [
        "h = −(β/2)[(m_w − r_w) − (m_l − r_l)]",
        "the logit is m_l - m_w, and m_w - m_l the other way",
        "−log σ(z) of each pair",
        "-log(sigma(beta * z))",
    ],
)
def test_a_repeated_formula_would_be_seen(line):
    assert REPEATED.search(line)


def test_a_wrong_formula_would_be_seen():
    """The test above rests on this reading of the lines."""
    assert computed("z = 2 * m_w\nL = E[z**2]\nz: the double", m_w=3.0) == 36.0
