"""build-pairs: scored or imported pictures → candidate pairs. Pure functions of key columns; no pictures.

Nothing depends on the order of the rows. `verdicts.py` gives every candidate its verdict.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean
from typing import Any, Literal

from rpo_cli.config import PairSettings
from rpo_cli.errors import UsageError, nearest
from rpo_cli.records import canonical_json
from rpo_cli.stages import opponents
from rpo_cli.stages.candidates import Candidate, Candidates, Kind, Picture, World
from rpo_cli.stages.margins import Scale, Scored, Scores, dispersion, scales, standings

# the light columns that `candidates` needs of each table
COLUMNS: dict[str, tuple[str, ...]] = {
    "images": ("image_id", "prompt_id", "prompt", "index", "sha256", "against"),
    "critiques": ("critique_id", "prompt_id", "image_sha256", "instructions"),
    "edits": (
        *("edit_id", "prompt_id", "image_sha256", "critique_id"),
        *("instruction", "attempt", "sha256", "purpose", "guidance", "image_guidance"),
    ),
    "rewards": ("prompt_id", "subject_sha256", "reward", "score"),
    "preferences": (
        *("prompt_id", "a_sha256", "b_sha256", "choice", "judged_by"),
        *("share", "standing", "rich", "preference_id"),
    ),
}
Rows = Sequence[Mapping[str, Any]]


def candidates(
    tables: Mapping[str, Rows], settings: PairSettings, scale: Mapping[str, Scale] | None = None
) -> Candidates:
    """All candidate pairs of some prompts.

    Args:
        tables: table name → rows with at least its `COLUMNS`; rows of current settings only.
        scale: of the rewards of the run (`scales_of`); None: these are all of its prompts.

    Raises:
        UsageError: a setting names a reward that has scored nothing, all weights are 0, or there are no
            two images of a prompt to take win rates from.
    """
    world = _index(tables, settings, scales_of([tables], settings) if scale is None else scale)
    _known(settings, world.scores)
    found: dict[str, Candidate] = {}
    if settings.strategy in ("edits", "all"):
        found.update((pair.pair_id, pair) for pair in _edit_pairs(tables, world, settings.select_by))
    if settings.strategy in ("seeds", "all"):
        found.update((pair.pair_id, pair) for pair in _seed_pairs(world))
    if settings.strategy in opponents.STRATEGIES:
        found.update((pair.pair_id, pair) for pair in opponents.pairs(tables["images"], world))
    if settings.labels != "none":
        found.update((pair.pair_id, pair) for pair in pairs(tables, world))
    return Candidates(tuple(found[key] for key in sorted(found)), world.scales)


def scales_of(found: Iterable[Mapping[str, Rows]], settings: PairSettings) -> dict[str, Scale]:
    """The scales that margins are in.

    Args:
        found: `images` and `rewards` as for `candidates`, of some prompts at a time, in the order of their
            ids.

    Raises:
        UsageError: there are no two images of a prompt to take win rates from.
    """
    spread = ((Scores.of(_scores(tables)), _seeds(tables["images"])) for tables in found)
    return scales(spread, calibrated=settings.calibration == "win-rate")


def _scores(tables: Mapping[str, Rows]) -> Iterator[Scored]:
    for row in tables["rewards"]:
        yield Scored(row["prompt_id"], row["subject_sha256"], row["reward"], row["score"])


def _pictures_of(images: Rows) -> dict[str, list[Picture]]:
    """prompt_id → its images in order, each row once."""
    unique = {Picture(row["prompt_id"], row["index"], row["image_id"], row["sha256"]) for row in images}
    found: dict[str, list[Picture]] = defaultdict(list)
    for picture in sorted(unique):
        found[picture.prompt_id].append(picture)
    return found


def _seeds(images: Rows) -> dict[str, list[str]]:
    """prompt_id → hashes of the images that are seeds of the policy."""
    given = opponents.opposed(images)
    return {
        prompt: [image.sha256 for image in found if (prompt, image.sha256) not in given]
        for prompt, found in _pictures_of(images).items()
    }


def _known(settings: PairSettings, scores: Scores) -> None:
    """Every reward that a setting names has scored something."""
    named = [("reward_weights", name) for name in settings.weights]
    named += [("select_by", settings.select_by)] if settings.select_by is not None else []
    known = list(scores.rewards)
    for setting, name in named:
        if name not in known:
            raise UsageError(
                f"pairs.{setting}: no scores of '{name}' in this run, only of: "
                f"{', '.join(known) or 'nothing'}{nearest(name, known)}",
                "name a reward of score.rewards",
            )
    if known and all(settings.weights.get(name, 1) == 0 for name in known):
        raise UsageError(
            f"pairs.reward_weights: every reward has weight 0 ({', '.join(known)})", "let one have a say"
        )


def _index(tables: Mapping[str, Rows], settings: PairSettings, scale: Mapping[str, Scale]) -> World:
    images = _pictures_of(tables["images"])
    # a reward that has scored nothing here has scored other prompts
    scores = replace(Scores.of(_scores(tables)), rewards=tuple(sorted(scale)))
    return World(
        prompts={row["prompt_id"]: row["prompt"] for row in tables["images"]},
        images=images,
        scores=scores,
        scales=dict(scale),
        dispersions={
            prompt: dispersion([scored for _, scored in _scored(scores, found)], scale)
            for prompt, found in images.items()
        },
        weights=settings.weights,
    )


def _scored(scores: Scores, pictures: Iterable[Picture]) -> list[tuple[Picture, dict[str, float]]]:
    """The pictures that every reward has scored, with their scores."""
    found = [(picture, scores.get(picture.prompt_id, picture.sha256)) for picture in pictures]
    return [(picture, rewards) for picture, rewards in found if scores.complete(rewards)]


def _edit_pairs(tables: Mapping[str, Rows], world: World, select_by: str | None) -> Iterator[Candidate]:
    """An original and the chosen one of its edits, for each critique and instruction.

    A counter-edit has no critique: none of this picture asked for it.
    """
    originals: dict[tuple[str, str], Picture] = {}
    for found in world.images.values():
        for image in found:
            originals.setdefault((image.prompt_id, image.sha256), image)
    asked = _critique_of_instruction(tables["critiques"])
    attempts: dict[tuple[str, str, str | None, str], set[Picture]] = defaultdict(set)
    for row in tables["edits"]:
        prompt_id, source, instruction = row["prompt_id"], row["image_sha256"], row["instruction"]
        counter = row.get("purpose") == "counter"
        critique_id = None if counter else asked.get((prompt_id, source, instruction))
        if (prompt_id, source) in originals and (counter or critique_id is not None):
            edit = Picture(prompt_id, row["attempt"], row["edit_id"], row["sha256"])
            attempts[prompt_id, source, critique_id, instruction].add(edit)
    for (prompt_id, source, critique_id, instruction), edits in attempts.items():
        chosen = _choose(sorted(edits), world.scores, select_by)
        tries = len(edits) if select_by else 1
        original = originals[prompt_id, source]
        kind: Kind = "counter" if critique_id is None else "edit"
        yield world.pair(kind, original, chosen, tries, critique_id=critique_id, instruction=instruction)


def _critique_of_instruction(critiques: Rows) -> dict[tuple[str, str, str], str]:
    """(prompt_id, picture, instruction) → critique that asks for it, alone or joined with its others.

    An edit joins on this, not on its critique_id: another critic that asks for the same edit of the same
    picture finds it made already, and it is then this critic's edit too.
    """
    asked: dict[tuple[str, str, str], str] = {}
    for row in sorted(critiques, key=lambda row: str(row["critique_id"])):
        instructions = list(row["instructions"])
        for text in ("; ".join(instructions), *instructions):
            asked.setdefault((row["prompt_id"], row["image_sha256"], text), row["critique_id"])
    return asked


def _choose(edits: Sequence[Picture], scores: Scores, select_by: str | None) -> Picture:
    """The best attempt by one reward (the earliest of equals), or the first when none is to choose."""
    if select_by is None:
        return edits[0]
    rated = [
        (score, edit)
        for edit in edits
        if (score := scores.get(edit.prompt_id, edit.sha256).get(select_by)) is not None
    ]
    return max(rated, key=lambda item: item[0])[1] if rated else edits[0]


def _seed_pairs(world: World) -> Iterator[Candidate]:
    """The best and the worst image of each prompt with two different ones; else two that lack scores."""
    for found in world.images.values():
        scored = _scored(world.scores, found)
        places = standings([rewards for _, rewards in scored], world.scales, world.weights)
        rated = [(place, image) for place, (image, _) in zip(places, scored, strict=True)]
        if len({image.sha256 for _, image in rated}) < 2:
            different = sorted({image.sha256: image for image in reversed(found)}.values())
            if len(different) > 1:  # to be dropped as unscored, and counted
                yield world.pair("seeds", different[0], different[1], len(rated))
            continue
        worst = min(rated, key=lambda item: item[0])[1]
        best = max(rated, key=lambda item: item[0])[1]
        if worst == best:  # every image stands alike
            best = next(image for _, image in rated if image.sha256 != worst.sha256)
        a, b = sorted((worst, best))
        yield world.pair("seeds", a, b, len(rated))


Row = Mapping[str, Any]
Sides = tuple[str, frozenset[str]]  # prompt_id and the hashes of both pictures


def pairs(tables: Mapping[str, Sequence[Row]], world: "World") -> Iterator["Candidate"]:
    """Each two pictures that a source has judged, once, with what most judgements say; even: a tie.

    Pictures that were judged alone are paired where one stands higher than another of its prompt, and
    nothing has judged the two together.
    """
    rows = tables.get("preferences", ())
    together = _together(rows)
    for (prompt_id, sides), votes in together.items():
        first = _pictures(world, prompt_id)
        if not sides <= first.keys():
            continue
        by_people = [row for row in votes if row["judged_by"] == "human"]
        a, b = sorted((first[min(sides)], first[max(sides)]))
        share = _share(by_people or votes, a.sha256)
        label: Literal["a", "b", "tie"] | None
        label = None if share is None else "tie" if share == 0.5 else "a" if share > 0.5 else "b"
        kind: Literal["human", "import"] = "human" if by_people else "import"
        rich = next(
            (text for row in sorted(votes, key=_key) if (text := _feedback_beside(row, a.sha256))), None
        )
        yield world.pair(kind, a, b, 1, label=label, share=share, rich=rich)
    yield from _alone(rows, together, world)


def _key(row: Row) -> str:
    return str(row.get("preference_id"))


def _together(rows: Sequence[Row]) -> dict[Sides, list[Row]]:
    found: dict[Sides, list[Row]] = defaultdict(list)
    for row in rows:
        if row.get("standing") is None:
            found[row["prompt_id"], frozenset((row["a_sha256"], row["b_sha256"]))].append(row)
    return found


def _alone(
    rows: Sequence[Row], together: Mapping[Sides, Sequence[Row]], world: "World"
) -> Iterator["Candidate"]:
    """Any two pictures of a prompt of which one stands higher than the other, by their mean standings."""
    said: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.get("standing") is not None:
            said[row["prompt_id"]][row["a_sha256"]].append(row)
    for prompt_id, pictures in said.items():
        first = _pictures(world, prompt_id)
        known = sorted(first[sha256] for sha256 in pictures if sha256 in first)
        for a, b in combinations(known, 2):
            if a.sha256 == b.sha256 or (prompt_id, frozenset((a.sha256, b.sha256))) in together:
                continue
            votes = [pictures[side.sha256] for side in (a, b)]
            places = [fmean(row["standing"] for row in sorted(rows, key=_key)) for rows in votes]
            if places[0] != places[1]:
                people = all(row["judged_by"] == "human" for rows in votes for row in rows)
                better: Literal["a", "b"] = "a" if places[0] > places[1] else "b"
                yield world.pair("human" if people else "import", a, b, 1, label=better)


def _pictures(world: "World", prompt_id: str) -> dict[str, "Picture"]:
    return {picture.sha256: picture for picture in reversed(world.images.get(prompt_id, []))}


def _share(votes: Sequence[Row], a: str) -> float | None:
    """The share of the judgements that prefers the picture with hash `a`; None where no one has answered.

    A tie is half a vote for each; even counts give exactly .5.
    """
    shares = [_preferring(vote, a) for vote in sorted(votes, key=_key) if vote["choice"] is not None]
    return round(fmean(shares), 12) if shares else None


def _preferring(vote: Row, a: str) -> float:
    share = vote.get("share")
    if share is None:
        share = {"a": 1.0, "b": 0.0, "tie": 0.5}[vote["choice"]]
    return float(share if vote["a_sha256"] == a else 1 - share)


def _feedback_beside(row: Row, a: str) -> str | None:
    """What stood beside a judgement, with the sides named as the pair names them."""
    rich = row.get("rich")
    if rich is None or row["a_sha256"] == a:
        return rich
    return swapped(rich)


def swapped(rich: str) -> str:
    """JSON of a pair with its sides' names exchanged."""
    names = {"a": "b", "b": "a"}
    found = json.loads(rich)
    told = {
        name[:-1] + names[name[-1]] if name.endswith(("_a", "_b")) else name: value
        for name, value in found.items()
    }
    for name in ("edited", "human_label", "winner"):
        if told.get(name) in names:
            told[name] = names[told[name]]
    return canonical_json(told)
