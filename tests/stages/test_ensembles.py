"""How several rewards become one verdict: win rates, Pareto selection and weights, counted by hand."""

import math
import random

import pytest

from rpo_cli.config import PairSettings
from rpo_cli.errors import UsageError
from rpo_cli.stages.candidates import Difference
from rpo_cli.stages.margins import Scale, Scored, Scores, compare, scales, standings
from rpo_cli.stages.pairs import candidates
from rpo_cli.stages.verdicts import decide

UNITS = {"r": Scale(1.0, ""), "s": Scale(1.0, "")}
WIN_RATE = {"calibration": "win-rate", "min_margin": 0.0, "min_agreement": 0.0}


def scores_of(**prompts):
    """Prompt → scores of its seeds, each a number (reward r)."""
    rows = [Scored(p, f"{p}{n}", "r", x) for p, values in prompts.items() for n, x in enumerate(values)]
    seeds = {p: [f"{p}{n}" for n in range(len(values))] for p, values in prompts.items()}
    return Scores.of(rows), seeds


def curve(**prompts):
    scores, seeds = scores_of(**prompts)
    return scales([(scores, seeds)], calibrated=True)["r"]


def test_a_win_rate_is_the_share_of_seed_differences_that_are_smaller():
    """Seeds 0, 1, 3 and 10, 14 differ by 1, 2, 3 and 4; 2 is above one, equal to one: (1 + 1/2) / 4."""
    found = curve(p=(0.0, 1.0, 3.0), q=(10.0, 14.0), alone=(99.0,))

    assert found.gaps == (1.0, 2.0, 3.0, 4.0)
    assert [found.margin(d) for d in (0.0, 0.5, 2.0, -2.0, 3.5, 5.0, -5.0)] == [
        *(0.0, 0.0, 0.375, -0.375, 0.75, 1.0, -1.0)
    ]


def test_win_rates_know_no_unit():
    """Any increasing unit that keeps the order of differences keeps every margin."""
    one = curve(p=(0.0, 1.0, 3.0), q=(10.0, 14.0))
    other = curve(p=(0.0, 100.0, 300.0), q=(-7.0, 393.0))

    assert [one.margin(d) for d in (0.5, 2.0, 3.5)] == [other.margin(100 * d) for d in (0.5, 2.0, 3.5)]


def test_without_two_images_of_a_prompt_there_is_no_win_rate():
    scores, seeds = scores_of(p=(1.0,), q=(2.0,))
    with pytest.raises(UsageError, match="'r' has scored no two images"):
        scales([(scores, seeds)], calibrated=True)


def test_weights_are_shares_of_the_mean_and_of_the_agreement():
    """r says +2 with weight 3, s says -1 with weight 1: mean 5/4, agreement 3/4; r silent: -1, 1."""
    a, b = {"r": 0.0, "s": 1.0}, {"r": 2.0, "s": 0.0}

    found = compare(a, b, UNITS, {"r": 3.0})
    silenced = compare(a, b, UNITS, {"r": 0.0})

    assert (found.margin, found.agreement) == (1.25, 0.75)
    assert (silenced.margin, silenced.agreement) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("r", "s", "least", "wins"),
    [
        (1.0, 1.0, 0.5, 1),
        (1.0, 0.0, 0.5, 1),  # one agrees, the other says nothing
        (1.0, -1e-9, 0.5, 0),  # one disagrees, however little
        (-1.0, 0.0, 0.5, -1),
        (-1.0, -0.1, 0.5, -1),
        (0.0, 0.0, 0.0, 0),
        (0.4, 0.4, 0.5, 0),  # none is clear
        (0.4, 0.4, 0.0, 1),
    ],
)
def test_pareto_takes_one_that_agrees_and_none_that_disagrees(r, s, least, wins):
    a, b = {"r": 0.0, "s": 0.0}, {"r": r, "s": s}

    assert compare(a, b, UNITS).pareto(least) == wins
    assert compare(b, a, UNITS).pareto(least) == -wins


def test_a_silent_reward_does_not_veto():
    found = compare({"r": 0.0, "s": 1.0}, {"r": 1.0, "s": 0.0}, UNITS, {"s": 0.0})

    assert found.pareto(0.5) == 1
    assert not found.torn


def test_places_by_win_rate_are_means_over_the_other_pictures():
    """Gaps 1 and 3. Scores 0, 1, 3: margins 0→1 .25, 0→3 .75, 1→3 .5; places -1/3, -1/12, 5/12."""
    scale = {"r": Scale(1.0, "", (1.0, 3.0))}

    assert standings([{"r": 0.0}, {"r": 1.0}, {"r": 3.0}], scale) == pytest.approx(
        [-1 / 3, -1 / 12, 5 / 12]
    )


# --- verdicts ------------------------------------------------------------------------------------------


def tables(before, after):
    """A prompt whose seeds differ by √2 (so the scale is 1) in both rewards, and one edited picture."""
    images = [("scale", 0, 0.0, 0.0), ("scale", 1, math.sqrt(2), math.sqrt(2)), ("p", 0, *before)]
    made = {"images": [], "critiques": [], "edits": [], "rewards": []}
    scored = [(prompt, f"{prompt}-{index}", values) for prompt, index, *values in images]
    made["images"] = [
        {"image_id": f"id-{p}-{n}", "prompt_id": p, "prompt": p, "index": n, "sha256": f"{p}-{n}"}
        for p, n, *_ in images
    ]
    made["critiques"] = [
        {"critique_id": "c", "prompt_id": "p", "image_sha256": "p-0", "instructions": ("mend it",)}
    ]
    edit = {"edit_id": "e", "prompt_id": "p", "image_sha256": "p-0", "sha256": "edited", "attempt": 0}
    made["edits"] = [edit | {"critique_id": "c", "instruction": "mend it"}]
    made["rewards"] = [
        {"prompt_id": prompt, "subject_sha256": sha, "reward": name, "score": value}
        for prompt, sha, values in [*scored, ("p", "edited", after)]
        for name, value in zip("rs", values, strict=True)
    ]
    return made


def verdict(before, after, **settings):
    chosen = PairSettings(**settings)
    found = candidates(tables(before, after), chosen).pairs
    (row,) = decide(found, [Difference(0.1, 10)], chosen)
    return row


@pytest.mark.parametrize(
    ("after", "reason", "winner"),
    [
        ((1.0, 0.0), "edit_won", "b"),
        ((-1.0, 0.0), "reversed", "a"),
        ((3.0, -0.1), "rewards_disagree", None),
        ((0.0, 0.0), "pareto_tie", None),
        ((0.3, 0.3), "pareto_tie", None),
    ],
)
def test_pareto_selection_drops_what_it_does_not_decide_with_a_reason(after, reason, winner):
    row = verdict((0.0, 0.0), after, selection="pareto")

    assert (row.reason, row.winner) == (reason, winner)


def test_the_same_edit_is_judged_by_weights():
    """r +2, s -1: even weights 0.5 for the edit; s three times as heavy: -0.25, three quarters agreeing."""
    even = verdict((0.0, 0.0), (2.0, -1.0), min_margin=0.2, min_agreement=0.5)
    heavy = verdict((0.0, 0.0), (2.0, -1.0), min_margin=0.2, min_agreement=0.5, reward_weights=("s=3",))

    assert (even.reason, even.margin) == ("edit_won", pytest.approx(0.5))
    assert (heavy.reason, heavy.margin, heavy.agreement) == ("reversed", pytest.approx(-0.25), 0.75)


def test_win_rates_reach_the_pairs():
    """The only seeds differ by √2: a difference of 2 is above, one of -1 below it."""
    row = verdict((0.0, 0.0), (2.0, -1.0), **WIN_RATE)

    assert row.margins == {"r": 1.0, "s": 0.0}
    assert row.margin == 0.5


def test_order_of_rows_changes_no_win_rate():
    world = tables((0.0, 0.5), (2.0, -1.0))
    first = candidates(world, PairSettings(**WIN_RATE, strategy="all"))
    for rows in world.values():
        random.Random(3).shuffle(rows)

    assert candidates(world, PairSettings(**WIN_RATE, strategy="all")) == first


@pytest.mark.parametrize(
    ("weights", "told"),
    [(("q=1",), "no scores of 'q'"), (("r=0", "s=0"), "every reward has weight 0")],
)
def test_weights_that_weigh_nothing_are_refused(weights, told):
    with pytest.raises(UsageError, match=told):
        verdict((0.0, 0.0), (1.0, 1.0), reward_weights=weights)


@pytest.mark.parametrize("value", ["r", "r=-1", "=1", "r=nan", "r=1,2"])
def test_a_weight_is_a_name_and_a_number(value):
    with pytest.raises(ValueError, match="NAME=NUMBER"):
        PairSettings(reward_weights=(value,))


def test_weights_of_one_are_no_weights():
    plain = verdict((0.1, 0.7), (0.3, 0.2), min_margin=0)
    weighed = verdict((0.1, 0.7), (0.3, 0.2), min_margin=0, reward_weights=("r=1", "s=1"))

    assert plain == weighed
