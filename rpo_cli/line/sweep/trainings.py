"""The trainings of a sweep: an ordinary `rpo train` in a process each, and their curves."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rpo_cli.errors import RpoError, RunLocked, SettingsError
from rpo_cli.line.child import run_command
from rpo_cli.line.report.sections import trainings
from rpo_cli.line.session import Line
from rpo_cli.line.sweep.checks import Ready, is_finished, opened
from rpo_cli.line.sweep.variants import Training
from rpo_cli.line.training import own_settings
from rpo_cli.resolve import NO_PRESET
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


WAIT = 30.0  # seconds for a training whose sweep was killed to end


def train_all(line: Line, told: Sequence[Ready], wanted: Sequence[Training]) -> None:
    """Make the trainings that are missing, each in a process of its own, one after the other.

    Raises:
        RpoError: one failed; names its log.
    """
    by_label = {one.variant.label: one for one in told}
    made = [
        training for training in wanted if is_finished(line, by_label[training.variant.label], training)
    ]
    if made:
        line.observer.note(f"{len(made)} of {len(wanted)} trainings are there")
    for place, training in enumerate(wanted, 1):
        if training not in made:
            _train(line, by_label[training.variant.label], training, f"{place}/{len(wanted)}")


def _train(line: Line, told: Ready, training: Training, place: str) -> None:
    """`rpo train` in a process of its own.

    Raises:
        RpoError: it failed.
    """
    own = opened(line, {**told.options, "train.name": training.name, "train.seed": training.seed})
    settings = own_settings(own)
    log = line.store.path("logs", f"{training.name}.log")
    _wait_for(line, training.name)
    steps = _Steps(line, training.name)
    line.observer.start(f"{place} {training.name}", settings.rounds or settings.steps, steps.seen)
    try:
        run_command(command(line, told, training), log, steps.look)
    except RpoError as error:
        message = error.problems[0] if isinstance(error, SettingsError) else error.message
        raise type(error)(f"training '{training.name}': {message}", error.hint) from error
    finally:
        line.observer.finish()


def command(line: Line, told: Ready, training: Training) -> list[str]:
    """The words of `rpo train` for one training, without "rpo"."""
    words = ["train", line.store.url, "--name", training.name, "--method", training.variant.method]
    words += ["--seed", str(training.seed)]
    preset, before = line.resolved.preset, line.resolved.earlier.preset or NO_PRESET
    words += [] if preset == before else ["--preset", preset]
    for name, value in told.options.items():
        if name != "train.method":
            words += ["--set", f"{name}={json.dumps(value, ensure_ascii=False)}"]
    return words


def _wait_for(line: Line, name: str) -> None:
    """A training whose sweep was killed ends a moment later; until then it holds its name.

    Raises:
        RunLocked: somebody is at work on it.
    """
    until = time.monotonic() + WAIT
    while True:
        try:
            with line.store.lock(f"train-{name}"):
                return
        except RunLocked:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


class _Steps:
    """Tells the observer how far a training in another process is, by the lines of its metrics.jsonl."""

    MARKS = (b'"split":"train"', b'"split":"rounds"')

    def __init__(self, line: Line, name: str) -> None:
        self._path, self._observer = line.store.path("train", name, "metrics.jsonl"), line.observer
        self.seen = self._count()

    def look(self) -> None:
        now = self._count()
        if now > self.seen:  # a training that goes on may begin with steps before those last seen
            self._observer.advance(now - self.seen, 0)
            self.seen = now

    def _count(self) -> int:
        try:
            text = self._path.read_bytes()
        except OSError:
            return 0
        return sum(text.count(mark) for mark in self.MARKS)
