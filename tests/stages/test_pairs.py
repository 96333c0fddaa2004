"""Hand-computed verdicts: one reward unit is 1 throughout, so margins can be read off the scores."""

import math
import random
from dataclasses import replace

import pytest

from rpo_cli.config import PairSettings
from rpo_cli.errors import UsageError
from rpo_cli.stages.candidates import Difference
from rpo_cli.stages.margins import Margin, Scale, Scored, Scores, compare, dispersion, scales
from rpo_cli.stages.pairs import candidates
from rpo_cli.stages.verdicts import decide, reason_to_drop
from rpo_cli.text import normalised, split_of

CHANGED = Difference(change=0.1, hash_distance=10)


class World:
    """Tables under construction. Prompt "scale" fixes the scale of rewards r and s at exactly 1."""

    def __init__(self, rewards=("r", "s")):
        self.rewards = rewards
        self.tables = {"images": [], "critiques": [], "edits": [], "rewards": []}
        for index, score in enumerate((0.0, math.sqrt(2))):  # variance (n - 1) of 0 and √2 is 1
            self.image("scale", index, *[score] * len(rewards))

    def scored(self, prompt, sha, scores):
        for reward, score in zip(self.rewards, scores, strict=False):
            row = {"prompt_id": prompt, "subject_sha256": sha, "reward": reward, "score": score}
            self.tables["rewards"].append(row)

    def image(self, prompt, index, *scores):
        sha = f"{prompt}-{index}"
        row = {
            "image_id": f"id-{sha}",
            "prompt_id": prompt,
            "prompt": prompt,
            "index": index,
            "sha256": sha,
        }
        self.tables["images"].append(row)
        self.scored(prompt, sha, scores)
        return sha

    def critique(self, image, *instructions, by="critic"):
        prompt = image.rpartition("-")[0]
        row = {"critique_id": f"{by}-{image}", "prompt_id": prompt, "image_sha256": image}
        self.tables["critiques"].append({**row, "instructions": instructions})

    def edit(self, image, instruction, attempt, *scores, sha=None, by="critic"):
        prompt = image.rpartition("-")[0]
        sha = sha or f"{image}-{instruction}-{attempt}"
        row = {"edit_id": f"edit-{sha}", "prompt_id": prompt, "image_sha256": image, "sha256": sha}
        row |= {"critique_id": f"{by}-{image}", "instruction": instruction, "attempt": attempt}
        self.tables["edits"].append(row)
        self.scored(prompt, sha, scores)
        return sha

    def edited(self, prompt, before, after, instruction="make it red"):
        """One image, its critique and one edit, with the scores of each."""
        image = self.image(prompt, 0, *before)
        self.critique(image, instruction)
        return self.edit(image, instruction, 0, *after)

    def pairs(self, difference=CHANGED, **settings):
        chosen = PairSettings(**settings)
        found = candidates(self.tables, chosen).pairs
        return decide(found, [difference] * len(found), chosen)

    def only(self, difference=CHANGED, **settings):
        (pair,) = self.pairs(difference, **settings)
        return pair


def test_the_scale_is_the_root_mean_variance_over_seeds_of_one_prompt():
    """Prompt p: scores 0, 2 (variance 2); q: 5, 6, 7 (variance 1); lone: 99, left out. √(3/2)."""
    rows = [("p", "0", 0.0), ("p", "1", 2.0), ("q", "0", 5.0), ("q", "1", 6.0), ("q", "2", 7.0)]
    rows += [("lone", "0", 99.0)]
    scores = Scores.of(Scored(prompt, prompt + sha, "r", score) for prompt, sha, score in rows)
    seeds = {"p": ["p0", "p1"], "q": ["q0", "q1", "q2"], "lone": ["lone0"]}
    assert scales([(scores, seeds)])["r"] == Scale(pytest.approx(math.sqrt(1.5)), "seeds of one prompt")


@pytest.mark.parametrize(
    ("rows", "seeds", "expected"),
    [
        ([("p", "a", 1.0), ("q", "b", 3.0)], {"p": ["a"], "q": ["b"]}, Scale(math.sqrt(2), "all images")),
        ([("p", "a", 1.0), ("p", "edit", 3.0)], {"p": ["a"]}, Scale(math.sqrt(2), "all pictures")),
        ([("p", "a", 7.0), ("p", "b", 7.0)], {"p": ["a", "b"]}, Scale(1.0, "nothing differs")),
        ([("p", "a", 0.1), ("p", "b", 0.1 + 1e-9)], {"p": ["a", "b"]}, Scale(1.0, "nothing differs")),
    ],
    ids=["one image a prompt", "one image in all", "equal scores", "equal up to rounding"],
)
def test_the_scale_falls_back_in_the_order_it_says(rows, seeds, expected):
    scores = Scores.of(Scored(prompt, sha, "r", score) for prompt, sha, score in rows)
    found = scales([(scores, seeds)])["r"]
    assert (found.sd, found.basis) == (pytest.approx(expected.sd), expected.basis)


@pytest.mark.parametrize("basis", ["seeds of one prompt", "all images", "all pictures", "nothing differs"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_scales_of_prompts_a_few_at_a_time_are_those_of_all_to_the_last_bit(basis, calibrated):
    rng = random.Random(basis)
    count = {"seeds of one prompt": 3, "all images": 1}.get(basis, 0) or (
        2 if basis == "nothing differs" else 1
    )
    prompts = [f"p{n:02}" for n in range(1 if basis == "all pictures" else 30)]
    rows, seeds = [], {}
    for prompt in prompts:
        seeds[prompt] = [f"{prompt}-{n}" for n in range(count)]
        for sha in [*seeds[prompt], f"{prompt}-edit"]:
            for reward in ("r", "s")[: rng.choice((1, 2)) if prompt != "p00" else 2]:
                score = 5.0 if basis == "nothing differs" else rng.gauss(3, 1e-3)
                rows.append(Scored(prompt, sha, reward, score))
    if calibrated and count < 2:
        seeds["zz"] = ["zz-0", "zz-1"]
        rows += [Scored("zz", sha, reward, 3.0) for sha in seeds["zz"] for reward in "rs"]

    def part(chosen):
        return Scores.of(row for row in rows if row.prompt_id in chosen), {p: seeds[p] for p in chosen}

    whole = scales([part(list(seeds))], calibrated=calibrated)
    names = list(seeds)
    few = [part(names[start : start + 4]) for start in range(0, len(names), 4)]
    assert scales(iter(few), calibrated=calibrated) == whole
    assert calibrated or {scale.basis for scale in whole.values()} == {basis}


def test_a_margin_is_the_mean_over_rewards_of_scaled_differences():
    scale = {"r": Scale(2.0, ""), "s": Scale(10.0, "")}
    found = compare({"r": 1.0, "s": 50.0}, {"r": 5.0, "s": 40.0}, scale)
    assert found.margins == {"r": 2.0, "s": -1.0}
    assert (found.margin, found.agreement) == (0.5, 0.5)


def test_a_reward_that_finds_no_difference_does_not_agree():
    scale = {"r": Scale(1.0, ""), "s": Scale(1.0, "")}
    found = compare({"r": 0.0, "s": 5.0}, {"r": 2.0, "s": 5.0}, scale)
    assert (found.margin, found.agreement) == (1.0, 0.5)


def test_an_edit_that_all_rewards_prefer_wins():
    world = World()
    edit = world.edited("p", before=(0.0, 0.0), after=(1.0, 2.0))
    pair = world.only()
    assert (pair.verdict, pair.reason, pair.winner) == ("accepted", "edit_won", "b")
    assert (pair.margin, pair.agreement) == (pytest.approx(1.5), 1.0)
    assert pair.margins == {"r": pytest.approx(1.0), "s": pytest.approx(2.0)}
    assert (pair.a_sha256, pair.b_sha256) == ("p-0", edit)
    assert (pair.rewards_a, pair.rewards_b) == ({"r": 0.0, "s": 0.0}, {"r": 1.0, "s": 2.0})
    assert (pair.instruction, pair.critique_id, pair.tries) == ("make it red", "critic-p-0", 1)


def test_an_edit_that_all_rewards_reject_is_reversed():
    world = World()
    world.edited("p", before=(1.0, 1.0), after=(0.0, 0.0))
    pair = world.only()
    assert (pair.verdict, pair.reason, pair.winner) == ("accepted", "reversed", "a")
    assert pair.margin == pytest.approx(-1.0)
    assert world.only(keep_reversed=False).model_dump(include={"verdict", "reason", "winner"}) == {
        "verdict": "dropped",
        "reason": "reversed",
        "winner": None,
    }


@pytest.mark.parametrize(
    ("after", "difference", "settings", "reason"),
    [
        ((0.4, 0.4), CHANGED, {}, "inside_band"),
        ((-0.4, -0.4), CHANGED, {}, "inside_band"),
        ((0.0, 0.0), CHANGED, {"min_margin": 0.0}, "inside_band"),
        ((4.0, -1.0), CHANGED, {}, "rewards_disagree"),
        ((-4.0, 1.0), CHANGED, {}, "rewards_disagree"),
        ((1.0, 1.0), Difference(0.0019, 10), {}, "unchanged"),
        ((1.0, 1.0), Difference(0.1, 10, floor=0.1), {}, "below_floor"),
        ((1.0, 1.0), Difference(0.51, 10), {}, "too_different"),
        ((1.0, 1.0), Difference(0.1, 3), {"min_hash_distance": 4}, "near_duplicate"),
        ((1.0, 1.0), None, {}, "corrupt_image"),
        ((1.0,), CHANGED, {}, "unscored"),
        ((), CHANGED, {}, "unscored"),
    ],
)
def test_each_gate_drops_with_its_own_reason(after, difference, settings, reason):
    world = World()
    world.edited("p", before=(0.0, 0.0), after=after)
    pair = world.only(difference, **settings)
    assert (pair.verdict, pair.reason, pair.winner) == ("dropped", reason, None)


def test_a_gate_lets_its_own_threshold_pass():
    world = World()
    world.edited("p", before=(0.0, 0.0), after=(1.0, 1.0))
    assert (
        world.only(Difference(0.25, 4), min_change=0.25, max_change=0.25, min_hash_distance=4).winner == "b"
    )
    assert world.only(min_margin=0.999).winner == "b"
    assert world.only(Difference(0.1001, 10, floor=0.1)).winner == "b"


def test_a_margin_of_exactly_min_margin_is_wide_enough():
    exact = {"r": 1.5, "s": 1.5}
    pair = world_pair(margin=Margin(exact, 1.5, 1.0))
    settings = PairSettings(min_margin=1.5)
    assert reason_to_drop(pair, CHANGED, settings) is None
    assert reason_to_drop(replace(pair, margin=Margin(exact, -1.5, 1.0)), CHANGED, settings) is None
    below = replace(pair, margin=Margin(exact, math.nextafter(1.5, 0), 1.0))
    assert reason_to_drop(below, CHANGED, settings) == "inside_band"


def world_pair(**changed):
    world = World()
    world.edited("p", before=(0.0, 0.0), after=(1.0, 1.0))
    (pair,) = candidates(world.tables, PairSettings()).pairs
    return replace(pair, **changed)


def test_disagreement_within_min_agreement_is_accepted():
    world = World(("r", "s", "t"))
    world.edited("p", before=(0.0, 0.0, 0.0), after=(3.0, 3.0, -1.0))
    assert world.only().reason == "rewards_disagree"
    assert world.only(min_agreement=0.6).reason == "edit_won"


def test_dropped_pairs_keep_their_gate_values():
    world = World()
    world.edited("p", before=(0.0, 0.0), after=(4.0, -1.0))
    pair = world.only(Difference(0.0, 1))
    assert (pair.reason, pair.change, pair.hash_distance) == ("unchanged", 0.0, 1)
    assert (pair.margin, pair.agreement) == (pytest.approx(1.5), 0.5)


def test_an_edit_with_the_bytes_of_its_original_is_unchanged_at_any_threshold():
    world = World()
    image = world.image("p", 0, 0.0, 0.0)
    world.critique(image, "make it red")
    world.edit(image, "make it red", 0, 0.0, 0.0, sha=image)
    assert world.only(Difference(0.0, 0), min_change=0.0, min_margin=0.0).reason == "unchanged"


def test_the_best_attempt_is_chosen_by_one_reward_and_confirmed_by_all():
    world = World()
    image = world.image("p", 0, 0.0, 0.0)
    world.critique(image, "mend")
    for attempt, scores in enumerate(((1.0, 1.0), (9.0, -1.0), (2.0, 3.0))):
        world.edit(image, "mend", attempt, *scores)
    assert world.only().b_sha256.endswith("-0"), "the first, when none is to choose"
    assert world.only().tries == 1
    by_r, by_s = world.only(select_by="r"), world.only(select_by="s")
    assert (by_r.b_sha256[-1], by_r.tries, by_r.reason) == ("1", 3, "rewards_disagree")
    assert (by_s.b_sha256[-1], by_s.tries, by_s.reason) == ("2", 3, "edit_won")


def test_equal_attempts_give_the_earliest():
    world = World()
    image = world.image("p", 0, 0.0, 0.0)
    world.critique(image, "mend")
    for attempt in (2, 1, 3):
        world.edit(image, "mend", attempt, 1.0, 1.0)
    assert world.only(select_by="r").b_sha256.endswith("-1")


def test_an_unknown_reward_to_choose_by_is_named_with_the_nearest():
    world = World(("clip", "vqascore"))
    with pytest.raises(UsageError, match=r"'vqascor'.*did you mean 'vqascore'"):
        world.pairs(select_by="vqascor")


def test_edits_of_other_pictures_and_instructions_take_no_part():
    """Another critic's instruction, and an original that is gone: rows of older settings."""
    world = World()
    world.edited("p", before=(0.0, 0.0), after=(1.0, 1.0))
    world.edit("p-0", "an instruction of an older critic", 0, 5.0, 5.0)
    world.critique("gone-0", "mend")
    world.edit("gone-0", "mend", 0, 5.0, 5.0)
    assert world.only().instruction == "make it red"


def test_an_edit_that_two_critics_ask_for_belongs_to_the_one_that_is_there():
    world = World()
    image = world.image("p", 0, 0.0, 0.0)
    world.critique(image, "mend", "polish", by="new-critic")
    world.edit(image, "mend; polish", 0, 1.0, 1.0, by="old-critic")
    world.edit(image, "polish", 0, 1.0, 2.0, by="old-critic")
    assert {pair.critique_id for pair in world.pairs()} == {"new-critic-p-0"}
    assert {pair.instruction for pair in world.pairs()} == {"mend; polish", "polish"}


def countered(before, after):
    """One picture with a critique of its own and a counter-edit."""
    world = World()
    image = world.image("p", 0, *before)
    world.critique(image, "make it red")
    world.edit(image, "add a dog", 0, *after)
    world.tables["edits"][-1] |= {"purpose": "counter"}
    return world


def test_an_original_beats_its_counter_edit_and_no_critique_has_asked_for_it():
    pair = countered([1, 1], [0, 0]).only()

    assert (pair.pair_kind, pair.verdict, pair.reason, pair.winner) == (
        *("counter", "accepted"),
        *("counter_lost", "a"),
    )
    assert (pair.critique_id, pair.instruction, pair.tries) == (None, "add a dog", 1)
    assert countered([1, 1], [0, 0]).only(keep_reversed=False).verdict == "accepted"


def test_a_counter_edit_that_wins_is_dropped_and_told():
    world = countered([0, 0], [1, 1])

    assert (world.only().verdict, world.only().reason) == ("dropped", "counter_won")
    assert world.only(min_margin=1.5).reason == "inside_band"


@pytest.mark.parametrize(("said", "reason"), [("a", "counter_lost"), ("b", "counter_won")])
def test_people_may_prefer_a_counter_edit(said, reason):
    chosen = PairSettings(use_verdicts="override")
    found = candidates(countered([1, 1], [0, 0]).tables, chosen).pairs

    (pair,) = decide(found, [CHANGED], chosen, {found[0].pair_id: said})

    assert (pair.verdict, pair.reason, pair.winner) == ("accepted", reason, said)


def test_a_counter_edit_is_no_attempt_at_what_a_critique_asks():
    """Even where a later critic asks for the same: the row says what it was made for."""
    world = countered([1, 1], [0, 0])
    world.critique("p-0", "add a dog", by="later")
    world.edit("p-0", "add a dog", 0, 2, 2, sha="answer")

    kinds = {pair.pair_kind: pair for pair in world.pairs()}

    assert sorted(kinds) == ["counter", "edit"]
    assert kinds["edit"].b_sha256 == "answer"
    assert kinds["edit"].pair_id != kinds["counter"].pair_id


def test_seed_pairs_are_the_best_against_the_worst_of_a_prompt():
    world = World()
    for index, scores in enumerate(((3.0, 3.0), (1.0, 1.0), (5.0, 5.0))):
        world.image("p", index, *scores)
    pair = next(pair for pair in world.pairs(strategy="seeds", min_margin=2.0) if pair.prompt_id == "p")
    assert (pair.a_sha256, pair.b_sha256, pair.winner, pair.reason) == ("p-1", "p-2", "b", "seed_won")
    assert (pair.pair_kind, pair.tries, pair.instruction) == ("seeds", 3, None)


def test_the_side_of_a_seed_pair_is_its_index_not_its_worth():
    world = World()
    world.image("p", 0, 9.0, 9.0)
    world.image("p", 1, 0.0, 0.0)
    pair = next(pair for pair in world.pairs(strategy="seeds") if pair.prompt_id == "p")
    assert (pair.a_sha256, pair.winner, pair.reason) == ("p-0", "a", "seed_won")


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        ([(), ()], ("p-0", "p-1", "unscored")),
        ([(1.0, 1.0), (1.0,)], ("p-0", "p-1", "unscored")),
        ([(), (1.0, 1.0), ()], ("p-0", "p-1", "unscored")),
        ([(1.0, 1.0), (), (3.0, 3.0)], ("p-0", "p-2", "seed_won")),
        ([()], None),
    ],
)
def test_pictures_without_scores_are_a_candidate_that_is_counted(scores, found):
    world = World()
    for index, given in enumerate(scores):
        world.image("p", index, *given)
    pairs = [pair for pair in world.pairs(strategy="seeds") if pair.prompt_id == "p"]
    assert [(pair.a_sha256, pair.b_sha256, pair.reason) for pair in pairs] == ([found] if found else [])


def test_all_is_both_strategies_and_a_lone_image_makes_no_seed_pair():
    world = World()
    world.edited("p", before=(0.0, 0.0), after=(1.0, 1.0))
    kinds = {
        strategy: {(p.pair_kind, p.prompt_id) for p in world.pairs(strategy=strategy)}
        for strategy in ("edits", "seeds", "all")
    }
    assert kinds["edits"] == {("edit", "p")}
    assert kinds["seeds"] == {("seeds", "scale")}
    assert kinds["all"] == kinds["edits"] | kinds["seeds"]


def test_the_same_two_pictures_count_once():
    world = World()
    image = world.image("p", 0, 0.0, 0.0)
    world.critique(image, "make it red", "colour it red")
    for instruction in ("make it red", "colour it red"):
        world.edit(image, instruction, 0, 1.0, 1.0, sha="the same bytes")
    pairs = world.pairs()
    kept, dropped = sorted(pairs, key=lambda pair: pair.verdict)
    assert (kept.reason, kept.duplicate_of) == ("edit_won", None)
    assert (dropped.reason, dropped.duplicate_of) == ("duplicate", kept.pair_id)


def test_the_same_two_pictures_count_once_on_either_side():
    """Picture 0 edited has the bytes of picture 1, and picture 1 edited those of picture 0."""
    world = World()
    for index, score in enumerate((0.0, 3.0)):
        world.critique(world.image("p", index, score, score), "swap")
    world.edit("p-0", "swap", 0, 3.0, 3.0, sha="p-1")
    world.edit("p-1", "swap", 0, 0.0, 0.0, sha="p-0")
    assert sorted(pair.reason for pair in world.pairs()) in (
        ["duplicate", "edit_won"],
        ["duplicate", "reversed"],
    )


def test_a_full_prompt_keeps_its_widest_margins():
    world = World()
    for index, score in enumerate((1.0, 3.0, -2.0)):
        image = world.image("p", index, 0.0, 0.0)
        world.critique(image, "mend")
        world.edit(image, "mend", 0, score, score)
    reasons = {pair.a_sha256: pair.reason for pair in world.pairs(max_pairs_per_prompt=2)}
    assert reasons == {"p-0": "prompt_full", "p-1": "edit_won", "p-2": "reversed"}


def test_a_prompt_is_full_whatever_the_spellings_of_its_pairs():
    world = World()
    for prompt, score in (("a red ball", 1.0), ("A  Red Ball", 3.0), ("a blue ball", 2.0)):
        world.edited(prompt, before=(0.0, 0.0), after=(score, score))
    reasons = {pair.prompt: pair.reason for pair in world.pairs(max_pairs_per_prompt=1)}
    assert reasons == {"a red ball": "prompt_full", "A  Red Ball": "edit_won", "a blue ball": "edit_won"}


def test_dispersion_is_the_entropy_of_the_mean_judge():
    """Two images; judges say σ(ln 3) = 3/4 and σ(-ln 3) = 1/4: mean 1/2, one bit. Agreed: H(3/4)."""
    scale = {"r": Scale(2.0, ""), "s": Scale(1.0, "")}
    step = math.log(3)
    split = [{"r": 0.0, "s": step}, {"r": 2 * step, "s": 0.0}]
    agreed = [{"r": 0.0, "s": 0.0}, {"r": 2 * step, "s": step}]
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert dispersion(split, scale) == pytest.approx(1.0)
    assert dispersion(agreed, scale) == pytest.approx(entropy)
    assert dispersion([{"r": 1e6, "s": 1e6}, {"r": -1e6, "s": -1e6}], scale) == pytest.approx(0, abs=1e-12)


def test_dispersion_needs_two_images_and_two_judges():
    scale = {"r": Scale(1.0, ""), "s": Scale(1.0, "")}
    assert dispersion([{"r": 0.0, "s": 0.0}], scale) is None
    assert dispersion([{"r": 0.0}, {"r": 1.0}], {"r": scale["r"]}) is None


def test_pairs_carry_the_dispersion_of_their_prompt():
    world = World()
    world.image("p", 1, math.log(3), -math.log(3))
    world.edited("p", before=(0.0, 0.0), after=(1.0, 1.0))
    world.edited("lone", before=(0.0, 0.0), after=(1.0, 1.0))
    found = {pair.prompt_id: pair.dispersion for pair in world.pairs()}
    assert found == {"p": pytest.approx(1.0), "lone": None}


def test_spellings_of_one_prompt_are_one_prompt():
    assert normalised("  A Red\tCIRCLE\n") == normalised("a red circle") == "a red circle"
    assert normalised("ﬁne Straße") == normalised("FINE STRASSE")
    for number in range(20):  # one alone would stand on the same side by chance
        assert split_of(f"A  RED circle {number}", 0.5) == split_of(f"a red circle {number}", 0.5)


def test_the_split_holds_its_fraction_and_only_grows_with_it():
    prompts = [f"prompt {n}" for n in range(2000)]
    small, large = (
        {prompt for prompt in prompts if split_of(prompt, fraction) == "validation"}
        for fraction in (0.1, 0.3)
    )
    assert small < large
    assert 140 <= len(small) <= 260  # 200 expected, sd 13.4
    assert not any(split_of(prompt, 0.0) == "validation" for prompt in prompts)


def crowd(seed):
    """Many prompts of several images, edits and attempts, with random scores, in random row order."""
    rng, world = random.Random(0), World()
    for prompt in (f"prompt {n}" for n in range(12)):
        for index in range(3):
            image = world.image(prompt, index, rng.gauss(0, 1), rng.gauss(0, 1))
            world.critique(image, "mend", "polish")
            for instruction in ("mend", "polish"):
                for attempt in range(2):
                    world.edit(image, instruction, attempt, rng.gauss(0.5, 1), rng.gauss(0.5, 1))
    for rows in world.tables.values():
        random.Random(seed).shuffle(rows)
    return world


def test_the_order_of_the_rows_changes_nothing():
    settings = {"strategy": "all", "select_by": "r", "max_pairs_per_prompt": 4, "val_fraction": 0.4}
    first = crowd(1).pairs(**settings)
    assert first == crowd(2).pairs(**settings)
    assert first == sorted(first, key=lambda pair: pair.pair_id)
    assert {pair.reason for pair in first} >= {
        "edit_won",
        "reversed",
        "seed_won",
        "prompt_full",
        "inside_band",
    }


def test_no_prompt_stands_on_both_sides():
    pairs = crowd(1).pairs(strategy="all", val_fraction=0.4)
    sides = {
        split: {pair.prompt for pair in pairs if pair.split == split} for split in ("train", "validation")
    }
    assert sides["train"]
    assert sides["validation"]
    assert not sides["train"] & sides["validation"]


def test_every_accepted_pair_has_a_winner_that_its_rewards_prefer():
    for pair in crowd(1).pairs(strategy="all"):
        assert (pair.winner is not None) == (pair.verdict == "accepted")
        if pair.winner:
            better, worse = (
                (pair.rewards_b, pair.rewards_a) if pair.winner == "b" else (pair.rewards_a, pair.rewards_b)
            )
            assert all(better[name] > worse[name] for name in better)


def test_nothing_in_gives_nothing_out():
    assert (
        decide(candidates({name: [] for name in World().tables}, PairSettings()).pairs, [], PairSettings())
        == []
    )
