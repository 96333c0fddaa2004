"""build-pairs: candidate pairs and how much their pictures differ → verdicts.

Every candidate becomes a row with all its gate values, so a threshold can be judged afterwards. To add a
gate: add its value to `Difference` or `Candidate`, a threshold to `PairSettings` and a line to
`reason_to_drop`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rpo_cli.config import PairSettings
from rpo_cli.records import Pair
from rpo_cli.stages import opponents
from rpo_cli.stages.candidates import Candidate, Difference
from rpo_cli.stages.margins import Margin
from rpo_cli.text import normalised, split_of

Said = Literal["a", "b", "tie", "reject"]
Row = Mapping[str, Any]
Subject = tuple[str, frozenset[str]]  # prompt_id and the hashes of both pictures


WON = {"seeds": "seed_won", "self": "given_won"}  # the one way in which a pair of this kind is accepted


def decide(
    pairs: Sequence[Candidate],
    differences: Sequence[Difference | None],
    settings: PairSettings,
    people: Mapping[str, Said] | None = None,
) -> list[Pair]:
    """One row per candidate, in order of pair_id, with its verdict and the reason.

    Args:
        differences: what `gates.measure` found, one per candidate; None where a picture is unreadable.
        people: pair_id → what reviewers say of it; pairs that nobody has judged are left out.
    """
    people = people or {}
    first: dict[tuple[str, frozenset[str]], str] = {}
    room: dict[str, int] = defaultdict(int)
    rows = []
    widest_first = sorted(
        zip(pairs, differences, strict=True),
        # a label that people gave, or that came with a pair, counts before one that rewards give
        key=lambda item: (
            not decided(item[0], people.get(item[0].pair_id), settings),
            not labelled(item[0], settings),
            -abs(item[0].margin.margin),
            item[0].pair_id,
        ),
    )
    for pair, difference in widest_first:
        twins = (pair.a.prompt_id, frozenset((pair.a.sha256, pair.b.sha256)))
        original = first.setdefault(twins, pair.pair_id)
        said = people.get(pair.pair_id)
        reason = reason_to_drop(pair, difference, settings, said)
        if reason is None and original != pair.pair_id:
            reason = "duplicate"
        if reason is None and settings.max_pairs_per_prompt is not None:
            room[normalised(pair.prompt)] += 1
            reason = (
                "prompt_full" if room[normalised(pair.prompt)] > settings.max_pairs_per_prompt else None
            )
        rows.append(_row(pair, difference or Difference(0.0, 0), reason, original, settings, said))
    return sorted(rows, key=lambda row: row.pair_id)


def reason_to_drop(
    pair: Candidate, difference: Difference | None, settings: PairSettings, said: Said | None = None
) -> str | None:
    """The first gate that drops the pair, or None."""
    if difference is None:
        return "corrupt_image"
    if decided(pair, said, settings):
        return _spoilt(said, pair, difference, settings)
    reason = (
        _unusable(pair, difference, settings)
        if labelled(pair, settings)
        else _outside(pair, difference, settings)
    )
    if reason is None and said is not None and settings.use_verdicts == "filter":
        return _contradicted(said, better_side(pair, settings))
    return reason


def _outside(pair: Candidate, difference: Difference, settings: PairSettings) -> str | None:
    """The gates of a pair that the rewards label."""
    if pair.kind == "self":
        return next((reason for reason, drops in opponents.gates(pair, settings) if drops), None)
    margin = pair.margin
    gates = (
        ("unscored", not pair.scored),
        ("unchanged", difference.change < settings.min_change or pair.a.sha256 == pair.b.sha256),
        ("below_floor", difference.floor is not None and difference.change <= difference.floor),
        ("too_different", difference.change > settings.max_change),
        ("near_duplicate", difference.hash_distance < settings.min_hash_distance),
        *_ensemble(margin, settings),
        ("reversed", pair.kind == "edit" and margin.margin < 0 and not settings.keep_reversed),
        ("counter_won", pair.kind == "counter" and margin.margin > 0),
    )
    return next((reason for reason, drops in gates if drops), None)


def _ensemble(margin: Margin, settings: PairSettings) -> tuple[tuple[str, bool], ...]:
    """The gates of what the rewards say together."""
    if settings.selection == "pareto":
        return (
            ("rewards_disagree", margin.torn),
            ("pareto_tie", margin.pareto(settings.min_margin) == 0),
        )
    return (
        ("inside_band", abs(margin.margin) < settings.min_margin or margin.margin == 0),
        ("rewards_disagree", margin.agreement < settings.min_agreement),
    )


def labelled(pair: Candidate, settings: PairSettings) -> bool:
    """Whether the pair keeps the label that it came with, so that margins have no say."""
    return pair.kind in ("import", "human") and settings.labels == "source"


def _unusable(pair: Candidate, difference: Difference, settings: PairSettings) -> str | None:
    """The gates of a pair that keeps its label: a tie is no preference, equal pictures are none either."""
    gates = (
        ("unlabelled", pair.label is None),
        ("tie", pair.label == "tie"),
        ("unchanged", pair.a.sha256 == pair.b.sha256 or difference.change == 0),
        ("near_duplicate", difference.hash_distance < settings.min_hash_distance),
    )
    return next((reason for reason, drops in gates if drops), None)


def decided(pair: Candidate, said: Said | None, settings: PairSettings) -> bool:
    """Whether reviewers decide about the pair, so that rewards and the label it came with have no say."""
    # "self": the given picture wins by what such a pair is
    return said is not None and settings.use_verdicts == "override" and pair.kind != "self"


def _spoilt(
    said: Said | None, pair: Candidate, difference: Difference, settings: PairSettings
) -> str | None:
    """The gates of a pair that reviewers decide about."""
    gates = (
        ("people_reject", said == "reject"),
        ("people_tie", said == "tie"),
        ("unchanged", pair.a.sha256 == pair.b.sha256 or difference.change == 0),
        ("reversed", pair.kind == "edit" and said == "a" and not settings.keep_reversed),
    )
    return next((reason for reason, drops in gates if drops), None)


def _contradicted(said: Said, better: Literal["a", "b"]) -> str | None:
    gates = {"reject": "people_reject", "tie": "people_tie", better: None}
    return gates.get(said, "people_disagree")


def better_side(pair: Candidate, settings: PairSettings, said: Said | None = None) -> Literal["a", "b"]:
    """The side that wins if no gate drops the pair."""
    if decided(pair, said, settings):
        return "b" if said == "b" else "a"
    if labelled(pair, settings):
        return "b" if pair.label == "b" else "a"
    return "b" if pair.margin.margin > 0 and pair.kind != "self" else "a"


def _won(pair: Candidate, better: Literal["a", "b"], settings: PairSettings, said: Said | None) -> str:
    """Why a pair that no gate dropped is accepted."""
    if pair.kind in WON:
        return WON[pair.kind]
    if pair.kind == "edit":
        return "edit_won" if better == "b" else "reversed"
    if pair.kind == "counter":
        return "counter_won" if better == "b" else "counter_lost"
    if decided(pair, said, settings):
        return "reviewed"
    if labelled(pair, settings):
        return "label_kept"
    return "label_confirmed" if pair.label == better else "relabelled"


def _row(
    pair: Candidate,
    difference: Difference,
    reason: str | None,
    original: str,
    settings: PairSettings,
    said: Said | None,
) -> Pair:
    better = better_side(pair, settings, said)
    return Pair(
        pair_id=pair.pair_id,
        prompt_id=pair.a.prompt_id,
        prompt=pair.prompt,
        pair_kind=pair.kind,
        a_id=pair.a.id,
        b_id=pair.b.id,
        a_sha256=pair.a.sha256,
        b_sha256=pair.b.sha256,
        critique_id=pair.critique_id,
        instruction=pair.instruction,
        tries=pair.tries,
        rewards_a=pair.rewards_a,
        rewards_b=pair.rewards_b,
        margins=pair.margin.margins,
        margin=pair.margin.margin,
        agreement=pair.margin.agreement,
        dispersion=pair.dispersion,
        change=difference.change,
        hash_distance=difference.hash_distance,
        verdict="accepted" if reason is None else "dropped",
        reason=reason or _won(pair, better, settings, said),
        winner=better if reason is None else None,
        split=split_of(pair.prompt, settings.val_fraction),
        duplicate_of=original if original != pair.pair_id else None,
        label=pair.label,
        share=pair.share,
        rich=pair.rich,
        people=said,
        floor=difference.floor,
    )


VERDICT_COLUMNS = (
    *("verdict_id", "pair_id", "choice", "reviewer", "number"),
    *("prompt_id", "a_sha256", "b_sha256", "left", "repeat"),
)


def subject(row: Row) -> Subject:
    """What a verdict is about."""
    return row["prompt_id"], frozenset((row["a_sha256"], row["b_sha256"]))


def standing(rows: Iterable[Row]) -> list[Row]:
    """The verdicts that count, by reviewer: the last entry of each showing, if it is a verdict."""
    last: dict[tuple[str, Subject, bool], Row] = {}
    for row in sorted(rows, key=lambda row: (row["reviewer"], row["number"], row["verdict_id"])):
        last[row["reviewer"], subject(row), row["repeat"]] = row
    return [row for row in last.values() if row["choice"] not in ("skip", "undo")]


def picked(row: Row) -> str:
    """The hash of the preferred picture, "tie" or "reject": what does not change with the sides' names."""
    side = row["choice"]
    return str(row[f"{side}_sha256"]) if side in ("a", "b") else str(side)


def votes(rows: Iterable[Row]) -> dict[Subject, dict[str, str]]:
    """Subject → reviewer → what was picked; contradicting oneself at the repeat is preferring neither."""
    found: dict[Subject, dict[str, str]] = defaultdict(dict)
    for row in standing(rows):
        vote, mine = picked(row), found[subject(row)]
        mine[row["reviewer"]] = vote if mine.get(row["reviewer"], vote) == vote else "tie"
    return dict(found)


def consensus(rows: Iterable[Row]) -> dict[Subject, str]:
    """Subject → what most reviewers picked; an even vote is a tie.

    More than half must find a pair of no use to reject it; of the others' votes, ties count for neither.
    """
    return {about: _majority(list(given.values())) for about, given in votes(rows).items()}


def _majority(given: list[str]) -> str:
    counts = Counter(given)
    if 2 * counts["reject"] > len(given):
        return "reject"
    sides = [(count, side) for side, count in counts.items() if side not in ("tie", "reject")]
    if not sides:
        return "tie"
    most, side = max(sides)
    return side if [count for count, _ in sides].count(most) == 1 else "tie"


def opinion_on(opinions: Mapping[Subject, str], prompt_id: str, a: str, b: str) -> Said | None:
    """The opinion about two pictures in the names of their sides; None where nobody has judged them."""
    opinion = opinions.get((prompt_id, frozenset((a, b))))
    if opinion is None:
        return None
    names: dict[str, Said] = {a: "a", b: "b", "reject": "reject"}
    return names.get(opinion, "tie")


def opinions_on(opinions: Mapping[Subject, str], pairs: Iterable[Candidate]) -> dict[str, Said]:
    """pair_id → what reviewers say of it."""
    found = {
        pair.pair_id: opinion_on(opinions, pair.a.prompt_id, pair.a.sha256, pair.b.sha256) for pair in pairs
    }
    return {key: said for key, said in found.items() if said is not None}
