"""score: a picture and its prompt → one number of one reward."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rpo_cli.protocols import Results, Reward, Task
from rpo_cli.records import Reject, RewardScore, content_key, seen_as

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


def wanted(subjects: Iterable[ScoreTask], *, reward: str, settings: str) -> Iterator[Task]:
    """One task per picture and prompt; the same picture under the same prompt is scored once."""
    seen: set[str] = set()
    for subject in subjects:
        shown = seen_as(subject.sha256, subject.decoding)
        key = content_key("score", shown, subject.prompt, reward, settings)
        if key not in seen:
            seen.add(key)
            yield Task(key, subject.subject_id, subject)


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
