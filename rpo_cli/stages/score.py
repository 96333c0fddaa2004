"""score: a picture and its prompt → a number of one reward, or a judge's word on two pictures."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rpo_cli.protocols import Results, Reward, Task, Wanted
from rpo_cli.records import HOLE, Reject, RewardScore, seen_as, template

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

NO_NUMBER = "score_not_finite"  # reason of a reject


@dataclass(frozen=True)
class ScoreTask:
    subject: Literal["image", "edit"]
    subject_id: str
    sha256: str
    prompt_id: str
    prompt: str
    picture: "Picture | None" = None
    decoding: str | None = None  # of the picture


class Shown(NamedTuple):
    """A picture of a run under its prompt."""

    subject: Literal["image", "edit"]
    subject_id: str
    sha256: str
    prompt_id: str
    prompt: str
    decoding: str | None = None

    @property
    def task(self) -> ScoreTask:
        return ScoreTask(*self[:5], decoding=self.decoding)


def wanted(subjects: Callable[[], Iterable[Shown]], *, reward: str, settings: str) -> Wanted:
    """A score of each picture and prompt; the same picture under the same prompt is scored once."""
    key = template("score", HOLE, HOLE, reward, settings)
    return Wanted(
        subjects,
        lambda one: key(seen_as(one.sha256, one.decoding), one.prompt),
        lambda key, one: Task(key, one.subject_id, one.task),
    )


def bucket(task: Task) -> Any:
    """Pictures of one batch have one size."""
    picture = task.payload.picture
    return picture.size


class Given(NamedTuple):
    """What a reward said of a picture.

    `cut`: the prompt had more tokens than it reads; None: not known. `spread`: see `RewardScore`.
    `environment`: of the process that computed it, where that is not this one.
    """

    score: float
    cut: bool | None = None
    spread: float | None = None
    environment: str | None = None


def step(tasks: Sequence[Task], reward: Reward, batch_size: int) -> list[Given]:
    """Score one batch, padded to `batch_size` with copies of its last task."""
    padded = [*tasks, *[tasks[-1]] * (batch_size - len(tasks))]
    prompts = [task.payload.prompt for task in padded]
    pictures = [task.payload.picture for task in padded]
    cuts = reward.cut(prompts) if hasattr(reward, "cut") else [None] * len(padded)
    if hasattr(reward, "spread"):
        said = reward.spread(prompts, pictures)
    else:
        said = [(score, None) for score in reward.score(prompts, pictures)]
    rows, where = zip(said, cuts, strict=True), getattr(reward, "environment", None)
    return [Given(score, cut, spread, where) for (score, spread), cut in rows][: len(tasks)]


@dataclass(frozen=True)
class Finish:
    """Scores → rows; a score that is no finite number is a reject."""

    reward: str
    settings: str
    environment: str

    def __call__(self, tasks: Sequence[Task], scores: Sequence[Given], batch_size: int) -> Results:
        return [self._row(task, given, batch_size) for task, given in zip(tasks, scores, strict=True)]

    def _row(self, task: Task, given: Given, batch_size: int) -> RewardScore | Reject:
        want: ScoreTask = task.payload
        score = given.score
        if not math.isfinite(score):
            return Reject(
                key_of=task.key,
                stage=f"score {self.reward}",
                input_id=want.subject_id,
                reason=NO_NUMBER,
                detail=f"{self.reward} gave {score}",
                settings=self.settings,
            )
        return RewardScore(
            score_id=task.key,
            subject=want.subject,
            subject_id=want.subject_id,
            subject_sha256=want.sha256,
            prompt_id=want.prompt_id,
            reward=self.reward,
            score=score,
            batch_size=batch_size,
            settings=self.settings,
            environment=given.environment or self.environment,
            truncated=given.cut,
            spread=given.spread,
        )


@dataclass(frozen=True)
class JudgeTask(ScoreTask):
    """`other_id` is the image that this picture is compared with; None for the first one of a prompt."""

    other_id: str | None = None
    other_sha256: str = ""
    first_sha256: str = ""
    other: "Picture | None" = None
    other_decoding: str | None = None
    first_decoding: str | None = None


def wanted_judgements(subjects: Callable[[], Iterable[JudgeTask]], *, reward: str, settings: str) -> Wanted:
    """A judgement of each picture and comparison; what it is compared with is part of its key."""
    key = template("judge", HOLE, HOLE, HOLE, reward, settings)

    def key_of(subject: JudgeTask) -> bytes:
        against = [
            seen_as(subject.other_sha256, subject.other_decoding),
            seen_as(subject.first_sha256, subject.first_decoding),
        ]
        return key(seen_as(subject.sha256, subject.decoding), subject.prompt, against)

    return Wanted(subjects, key_of, lambda key, subject: Task(key, subject.subject_id, subject))


def bucket_judgements(task: Task) -> Any:
    """Pictures of one batch have one size; those that are compared with nothing stand apart."""
    other = task.payload.other
    return task.payload.picture.size, None if other is None else other.size


def step_judgements(tasks: Sequence[Task], judge: Reward, batch_size: int) -> list[float]:
    """The verdict on every task: 1, 0 or -1; 0 without asking where there is nothing to compare with."""
    if tasks[0].payload.other is None:
        return [0.0] * len(tasks)
    verdicts = []
    for want in (task.payload for task in tasks):
        assert want.other is not None
        assert want.picture is not None
        verdicts.append(judge.score([want.prompt, want.prompt], [want.other, want.picture])[1])
    return verdicts


@dataclass(frozen=True)
class Standing:
    """Verdicts → rows: each on top of the score of what the picture was compared with.

    Attributes:
        scores: (prompt_id, sha256) → score of the images that were judged before.
    """

    finish: Finish
    scores: Mapping[tuple[str, str], float]

    def __call__(self, tasks: Sequence[Task], verdicts: Sequence[float], batch_size: int) -> Results:
        return [self._row(task, verdict, batch_size) for task, verdict in zip(tasks, verdicts, strict=True)]

    def _row(self, task: Task, verdict: float, batch_size: int) -> RewardScore | Reject:
        want: JudgeTask = task.payload
        base = 0.0
        if want.subject == "edit":
            base = self.scores.get((want.prompt_id, want.other_sha256), math.nan)
        (row,) = self.finish([task], [Given(base + verdict)], batch_size)
        assert isinstance(row, RewardScore | Reject)
        return row
