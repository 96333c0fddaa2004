"""The trainings of a sweep: an ordinary `rpo train` in a process of its own each, one after the other."""

import json
import time
from collections.abc import Sequence

from rpo_cli.errors import RpoError, RunLocked, SettingsError
from rpo_cli.line.child import run_command
from rpo_cli.line.session import Line
from rpo_cli.line.sweep.checks import Ready, is_made, opened
from rpo_cli.line.sweep.variants import Training
from rpo_cli.line.training import own_settings
from rpo_cli.resolve import NO_PRESET

WAIT = 30.0  # seconds for a training whose sweep was killed to end


def train_all(line: Line, told: Sequence[Ready], wanted: Sequence[Training]) -> None:
    """Make the trainings that are missing, each in a process of its own, one after the other.

    Raises:
        RpoError: one failed; names its log.
    """
    by_label = {one.variant.label: one for one in told}
    made = [training for training in wanted if is_made(line, by_label[training.variant.label], training)]
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
