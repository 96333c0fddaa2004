"""The curves of several trainings: one number that all of them have, its mean and range over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rpo_cli.line.report.provenance import trainings
from rpo_cli.store import Store
from rpo_cli.visuals.bands import Band
from rpo_cli.visuals.tally import thinned

STEP, ROUND = "optimiser step", "round"
# (split, number of metrics.jsonl) → what it is; the first that all trainings have is drawn
DRAWN = {
    ("validation", "implicit_accuracy"): "held-out pairs that the policy ranks as their labels, share",
    ("train", "implicit_accuracy"): "training pairs that the policy ranks as their labels, share",
    ("train", "reward_mean"): "mean reward of the pictures drawn",
    ("validation", "winner_error"): "denoising error of held-out winners",
    ("train", "winner_error"): "denoising error of winners in training",
    ("train", "loss"): "loss, each method's own: not to be compared between methods",
}
DRAW = "draw"  # stands for the split of what a round draws, whatever the kind of training
Values = Mapping[tuple[str, str], Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Curves:
    """What is drawn of several settings.

    Attributes:
        said: what the number is, in words. unit: of the horizontal axis.
        bands: setting → mean, lowest and highest over its seeds at each place.
        left_out: settings that have no such number.
    """

    split: str
    name: str
    said: str
    unit: str
    bands: dict[str, list[Band]]
    left_out: tuple[str, ...] = ()


def curves_of(store: Store, members: Mapping[str, Sequence[str]]) -> Curves | None:
    """The curves of each setting's trainings, by the first number of `DRAWN` that most settings have.

    Args:
        members: setting → names of its trainings.
    """
    values = {each.name: {**each.values, **_rewards(each.values)} for each in trainings(store)}
    rewards = sorted({key for found in values.values() for key in found if key[0] == DRAW})
    told = DRAWN | {key: f"mean {key[1]} reward of the pictures drawn" for key in rewards}
    best: Curves | None = None
    for (split, name), said in told.items():
        found = {
            label: band
            for label, names in members.items()
            if len(band := _band([values.get(n, {}).get((split, name), []) for n in names])) > 1
        }
        if len(found) > (len(best.bands) if best else 0):
            unit = ROUND if split == DRAW or name == "reward_mean" else STEP
            left = tuple(label for label in members if label not in found)
            best = Curves(split, name, said, unit, found, left)
    return best


def _rewards(values: Values) -> Values:
    """The rewards of what was drawn in each round, which trainings of two kinds write by two names."""
    return {
        (DRAW, reward): points
        for (split, name), points in values.items()
        for marked, reward in (
            (split == "rounds" and name.endswith("_mean"), name.removesuffix("_mean")),
            (split == "train" and name.startswith("reward_"), name.removeprefix("reward_")),
        )
        if marked and reward not in ("mean", "std", "noise")
    }


def _band(series: Sequence[Sequence[tuple[float, float]]]) -> list[Band]:
    """Over the places that all series have."""
    tables = [dict(thinned(points)) for points in series]
    places = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    found = []
    for at in places:
        numbers = [table[at] for table in tables]
        found.append(Band(at, sum(numbers) / len(numbers), min(numbers), max(numbers)))
    return found
