"""A candidate pair: two pictures of one prompt with their scores, and what candidates are made from."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from rpo_cli.records import content_key
from rpo_cli.stages.margins import (
    Margin,
    Scale,
    Scores,
    compare,
)

Kind = Literal["edit", "counter", "seeds", "self", "import", "human"]


Label = Literal["a", "b", "tie"]


class Picture(NamedTuple):
    """An image or an edit, in sorting order: `order` is an image's index or an edit's attempt."""

    prompt_id: str
    order: int
    id: str
    sha256: str


@dataclass(frozen=True)
class Candidate:
    """Two pictures of one prompt, judged by the rewards, not yet by the gates."""

    pair_id: str
    kind: Kind
    prompt: str
    a: Picture
    b: Picture
    critique_id: str | None
    instruction: str | None
    tries: int
    rewards_a: dict[str, float]
    rewards_b: dict[str, float]
    margin: Margin
    dispersion: float | None
    scored: bool
    label: Label | None = None
    share: float | None = None
    rich: str | None = None


@dataclass(frozen=True)
class Difference:
    """Of a pair: mean absolute pixel difference in [0, 1], Hamming distance of hashes in [0, 64].

    It is measured once and kept; the gates that look at it may change without a new look at the pictures.
    `floor`: the change that the editor of side b makes by itself (`edit.py`); None: not known, or no edit.
    """

    change: float
    hash_distance: int
    floor: float | None = None


@dataclass(frozen=True)
class Candidates:
    """All candidates, by pair_id, and the scales their margins are in."""

    pairs: tuple[Candidate, ...]
    scales: dict[str, Scale]


@dataclass(frozen=True)
class World:
    """The tables, indexed: what both strategies look things up in."""

    prompts: dict[str, str]
    images: dict[str, list[Picture]]
    scores: Scores
    scales: dict[str, Scale]
    dispersions: dict[str, float | None]
    weights: dict[str, float]

    def pair(
        self,
        kind: Kind,
        a: Picture,
        b: Picture,
        tries: int,
        label: Label | None = None,
        share: float | None = None,
        **made: str | None,
    ) -> Candidate:
        critique_id, instruction = made.get("critique_id"), made.get("instruction")
        rewards_a, rewards_b = (self.scores.get(side.prompt_id, side.sha256) for side in (a, b))
        return Candidate(
            pair_id=content_key("pair", kind, a.prompt_id, a.sha256, b.sha256, critique_id, instruction),
            kind=kind,
            prompt=self.prompts[a.prompt_id],
            a=a,
            b=b,
            critique_id=critique_id,
            instruction=instruction,
            tries=tries,
            rewards_a=rewards_a,
            rewards_b=rewards_b,
            margin=compare(rewards_a, rewards_b, self.scales, self.weights),
            dispersion=self.dispersions.get(a.prompt_id),
            scored=self.scores.complete(rewards_a) and self.scores.complete(rewards_b),
            label=label,
            share=share,
            rich=made.get("rich"),
        )
