"""Losers made on purpose: which are asked for, who is whose, and when a pair is left out."""

import math
from collections import Counter
from dataclasses import replace

import pytest

from rpo_cli.config import PairSettings
from rpo_cli.stages import opponents
from rpo_cli.stages.candidates import Difference
from rpo_cli.stages.margins import Margin
from rpo_cli.stages.pairs import candidates
from rpo_cli.stages.verdicts import decide, reason_to_drop

CHANGED = Difference(change=0.1, hash_distance=10)
WINNERS = [opponents.Winner(f"id-{n}", f"sha-{n}", "p", "a cat") for n in range(40)]
STRENGTHS = (0.3, 0.6, 0.9)


def asked(winners=WINNERS, count=2, seed=0, settings="s", strengths=STRENGTHS):
    return list(opponents.wanted(winners, count=count, seed=seed, settings=settings, strengths=strengths))


def test_every_winner_gets_its_own_losers_with_seeds_of_their_own():
    tasks = asked()
    assert len({task.key for task in tasks}) == len({task.payload.seed for task in tasks}) == 80
    assert Counter(task.input_id for task in tasks) == {winner.image_id: 2 for winner in WINNERS}
    assert all(task.payload.against == f"sha-{task.input_id.removeprefix('id-')}" for task in tasks)


def test_the_strength_is_one_of_those_given_drawn_by_the_row_and_not_by_its_place():
    tasks = {task.key: task.payload.strength for task in asked()}
    again = {task.key: task.payload.strength for task in asked(WINNERS[::-1])}
    assert tasks == again
    assert set(tasks.values()) == set(STRENGTHS)
    assert all(15 <= count <= 40 for count in Counter(tasks.values()).values())  # of 80, in three
    assert {task.payload.strength for task in asked(strengths=())} == {None}


def test_another_seed_or_setting_is_another_picture():
    (first,), (seed,), (setting,) = (
        asked(WINNERS[:1], count=1),
        asked(WINNERS[:1], count=1, seed=1),
        asked(WINNERS[:1], count=1, settings="t"),
    )
    assert len({first.key, seed.key, setting.key}) == 3
    assert first.payload.seed != seed.payload.seed
    assert first.payload.seed == setting.payload.seed  # the noise does not depend on the model


def world(*losers, winner=2.0):
    """One winner and its losers, and a prompt that fixes the scale of both rewards at 1."""
    images, rewards = [], []

    def add(prompt, index, score, against=None):
        sha = f"{prompt}-{index}"
        row = {"image_id": f"id-{sha}", "prompt_id": prompt, "prompt": prompt, "index": index}
        images.append({**row, "sha256": sha, "against": against})
        for reward in ("r", "s"):
            rewards.append({"prompt_id": prompt, "subject_sha256": sha, "reward": reward, "score": score})

    for index, score in enumerate((0.0, math.sqrt(2))):  # variance (n - 1) of 0 and √2 is 1
        add("scale", index, score)
    add("p", 0, winner)
    for index, score in enumerate(losers, 1):
        add("p", index, score, "p-0")
    return {"images": images, "critiques": [], "edits": [], "rewards": rewards}


def verdicts(tables, **settings):
    values = PairSettings(**settings)
    found = candidates(tables, values).pairs
    rows = decide(found, [CHANGED] * len(found), values)
    return {row.b_id: (row.verdict, row.reason, row.winner) for row in rows if row.prompt == "p"}


def test_sapo_leaves_out_a_loser_that_scores_at_least_as_well_and_one_inside_the_noise():
    tables = world(1.0, 2.0, 2.5, 1.5)  # the losers differ, so the spread is that of all prompts
    scale = candidates(tables, PairSettings(strategy="sapo")).scales["r"].sd
    found = verdicts(tables, strategy="sapo", min_margin=0.75 / scale)
    assert found == {
        "id-p-1": ("accepted", "given_won", "a"),
        "id-p-2": ("dropped", "loser_won", None),
        "id-p-3": ("dropped", "loser_won", None),
        "id-p-4": ("dropped", "inside_band", None),
    }


@pytest.mark.parametrize(("margin", "reason"), [(-1.5, None), (math.nextafter(-1.5, 0), "inside_band")])
def test_a_margin_of_exactly_min_margin_is_wide_enough(margin, reason):
    settings = PairSettings(strategy="sapo", min_margin=1.5)
    pair = next(pair for pair in candidates(world(1.0), settings).pairs if pair.kind == "self")
    pair = replace(pair, margin=Margin({"r": margin}, margin, 1.0))
    assert reason_to_drop(pair, CHANGED, settings) == reason


def test_spin_knows_its_winner_whatever_the_rewards_say():
    tables = world(1.0, 2.0, 2.5)
    assert set(verdicts(tables, strategy="spin").values()) == {("accepted", "given_won", "a")}


@pytest.mark.parametrize("strategy", ["spin", "sapo"])
def test_a_loser_stands_against_its_own_winner_only(strategy):
    tables = world(1.0)
    tables["images"].append(
        {**tables["images"][2], "image_id": "id-other", "sha256": "p-other", "index": 7}
    )
    found = candidates(tables, PairSettings(strategy=strategy)).pairs
    assert [(pair.a.sha256, pair.b.sha256) for pair in found] == [("p-0", "p-1")]


def test_a_given_winner_is_no_seed_of_the_policy():
    """The spread over seeds is of what the policy makes; a far better winner must not widen it."""
    near = candidates(world(1.0, 1.2, winner=2.0), PairSettings(strategy="sapo")).scales["r"].sd
    far = candidates(world(1.0, 1.2, winner=200.0), PairSettings(strategy="sapo")).scales["r"].sd
    assert near == far == pytest.approx(math.sqrt((1.0 + 0.02) / 2))  # variances 1 and .02, two prompts


def test_an_unscored_loser_is_dropped_by_sapo_and_kept_by_spin():
    tables = world(1.0)
    tables["rewards"] = [row for row in tables["rewards"] if row["subject_sha256"] != "p-1"]
    assert verdicts(tables, strategy="sapo")["id-p-1"] == ("dropped", "unscored", None)
    assert verdicts(tables, strategy="spin")["id-p-1"] == ("accepted", "given_won", "a")


def test_a_loser_with_the_bytes_of_its_winner_is_no_pair():
    tables = world(1.0)
    tables["images"][-1]["sha256"] = "p-0"
    assert all(row[0] == "dropped" for row in verdicts(tables, strategy="spin").values())
