"""Losers made on purpose: for winners that are given, pictures of the policy that are to lose to them.

spin: other pictures of the winner's prompt, from noise alone. sapo: the winner itself with a part of its
noise put back and taken away again (SDEdit, Meng et al. 2022, arXiv:2108.01073). Their picture rows name
the winner in `against`. Pure functions.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from rpo_cli.config import PairSettings
from rpo_cli.protocols import Renoiser, Task, Wanted
from rpo_cli.records import content_key, row_seed, seen_as
from rpo_cli.stages.generate import Cut, ImageTask, with_cuts

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from rpo_cli.stages.candidates import Candidate, World

STRATEGIES = ("spin", "sapo")


@dataclass(frozen=True)
class Winner:
    """A picture that is given, by the key of its row and the hash of its bytes."""

    image_id: str
    sha256: str
    prompt_id: str
    prompt: str
    decoding: str | None = None


def wanted(
    winners: Collection[Winner], *, count: int, seed: int, settings: str, strengths: Sequence[float]
) -> Wanted:
    """`count` losers for each winner; with `strengths` each is one of them strong, chosen by its seed."""

    def payload(winner: Winner, index: int) -> ImageTask:
        own = row_seed(seed, "loser", winner.prompt, winner.sha256, index)
        strength = strengths[row_seed(own, "strength") % len(strengths)] if strengths else None
        names = (winner.prompt_id, winner.prompt, index, own, winner.sha256, strength)
        return ImageTask(*names, decoding=winner.decoding)

    def key(subject: tuple[Winner, int]) -> bytes:
        return bytes.fromhex(loser_key(payload(*subject), seed=seed, settings=settings))

    return Wanted(
        lambda: product(winners, range(count)),
        key,
        lambda key, subject: Task(key, subject[0].image_id, payload(*subject)),
    )


def loser_key(task: ImageTask, *, seed: int, settings: str) -> str:
    """The key of a loser's row."""
    drawn = () if task.strength is None else (task.strength,)
    shown = None if task.against is None else seen_as(task.against, task.decoding)
    return content_key("loser", task.prompt, shown, task.index, seed, settings, *drawn)


def bucket(task: Task) -> Any:
    """Pictures of one batch have one size and get one strength."""
    return task.payload.picture.size, task.payload.strength


def step(tasks: Sequence[Task], renoiser: Renoiser, batch_size: int) -> "list[Picture | Cut | None]":
    """Re-noise one batch, padded to `batch_size` with copies of its last task."""
    asked = [task.payload for task in [*tasks, *[tasks[-1]] * (batch_size - len(tasks))]]
    pictures = renoiser.renoise(
        [one.picture for one in asked],
        [one.prompt for one in asked],
        [one.seed for one in asked],
        strength=asked[0].strength,
    )
    return with_cuts(renoiser, [[task.payload.prompt] for task in tasks], pictures[: len(tasks)])


def pairs(images: Iterable[Mapping[str, Any]], world: "World") -> "Iterator[Candidate]":
    """Every loser beside the winner it was made against."""
    by_hash = {(one.prompt_id, one.sha256): one for found in world.images.values() for one in found}
    for row in images:
        winner = by_hash.get((row["prompt_id"], row.get("against") or ""))
        if winner is not None:
            loser = by_hash[row["prompt_id"], row["sha256"]]
            yield world.pair("self", winner, loser, 1)


def opposed(images: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """(prompt_id, sha256) of the pictures that others were made against: no seeds of the policy."""
    return {(row["prompt_id"], sha) for row in images if (sha := row.get("against")) is not None}


def gates(pair: "Candidate", settings: PairSettings) -> tuple[tuple[str, bool], ...]:
    """Reasons to drop a pair of a given winner and its loser, with whether each holds.

    spin knows the winner, whatever the rewards say. sapo leaves out losers that score at least as well.
    """
    same = pair.a.sha256 == pair.b.sha256
    if settings.strategy == "spin":
        return (("unchanged", same),)
    margin = pair.margin
    return (
        ("unscored", not pair.scored),
        ("unchanged", same),
        ("loser_won", margin.margin >= 0),
        ("inside_band", -margin.margin < settings.min_margin),
        ("rewards_disagree", margin.agreement < settings.min_agreement),
    )
