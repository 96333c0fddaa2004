"""score by a judge of pairs: a picture and another of its prompt → how much better it was judged, in steps.

Each picture is compared with one other: an edit with its original, an image with the first image of its
prompt, which stands at 0. A picture's score is that of what it was compared with, and 1 more, the same or
1 less. So the difference between an edit and its original is the verdict itself, and margins, gates and
rankings need no special case. Pictures that were never compared with each other are ranked through what
they have in common only.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rpo_cli.protocols import Results, Reward, Task
from rpo_cli.records import Reject, RewardScore, content_key, seen_as
from rpo_cli.stages.score import Finish, Given, ScoreTask

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


@dataclass(frozen=True)
class JudgeTask(ScoreTask):
    """`other_id` is the image that this picture is compared with; None for the first one of a prompt."""

    other_id: str | None = None
    other_sha256: str = ""
    first_sha256: str = ""
    other: "Picture | None" = None
    other_decoding: str | None = None
    first_decoding: str | None = None


def wanted(subjects: Iterable[JudgeTask], *, reward: str, settings: str) -> Iterator[Task]:
    """One task per picture and comparison; what it is compared with is part of its key."""
    seen: set[str] = set()
    for subject in subjects:
        against = [
            seen_as(subject.other_sha256, subject.other_decoding),
            seen_as(subject.first_sha256, subject.first_decoding),
        ]
        shown = seen_as(subject.sha256, subject.decoding)
        key = content_key("judge", shown, subject.prompt, against, reward, settings)
        if key not in seen:
            seen.add(key)
            yield Task(key, subject.subject_id, subject)


def bucket(task: Task) -> Any:
    """Pictures of one batch have one size; those that are compared with nothing stand apart."""
    other = task.payload.other
    return task.payload.picture.size, None if other is None else other.size


def step(tasks: Sequence[Task], judge: Reward, batch_size: int) -> list[float]:
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
