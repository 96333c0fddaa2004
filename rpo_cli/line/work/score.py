"""Scores that a reward did not give: numbers that are none, and scorers that failed."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from rpo_cli import registry
from rpo_cli.errors import RpoError
from rpo_cli.line.session import Line
from rpo_cli.line.work import critics
from rpo_cli.line.work.base import Work, build_backend, light_rows, reject_reasons, settings_group
from rpo_cli.line.work.critics import reward_identity
from rpo_cli.line.work.edit import edit_work, wants_edits
from rpo_cli.line.work.generate import live_images
from rpo_cli.line.work.pairwise import judge_works
from rpo_cli.protocols import Stage
from rpo_cli.stages import score
from rpo_cli.stages.score import NO_NUMBER

MOST = 0.05  # of one reward's scores that may be no numbers


@dataclass(frozen=True)
class Unscored:
    """What a run has of one reward's scores.

    Attributes:
        wanted, present: rows; those that are neither there nor rejected are still to be made.
        no_number: rejects whose score was NaN or infinite. rejected: all rejects, those among them.
    """

    reward: str
    wanted: int
    present: int
    rejected: int
    no_number: int

    @property
    def missing(self) -> int:
        return self.wanted - self.present

    @property
    def too_many(self) -> bool:
        """More than `MOST` of the scores that it was asked for and gave."""
        return self.no_number > MOST * (self.present + self.no_number)


def unscored(line: Line) -> list[Unscored]:
    """Each reward of the run, as its tables are now; a judge's works of images and edits are one."""
    by_name: dict[str, list[Work]] = {}
    for work in score_works(line):
        by_name.setdefault(work.name.removeprefix("score "), []).append(work)
    return [_of(line, name, works) for name, works in by_name.items()]


def _of(line: Line, reward: str, works: Sequence[Work]) -> Unscored:
    reasons: Counter[str] = Counter()
    for work in works:
        reasons.update(reject_reasons(line, work, work.keys))
    keys = set().union(*(work.keys for work in works))
    present = len(keys & line.store.keys("rewards"))
    return Unscored(reward, len(keys), present, reasons.total(), reasons[NO_NUMBER])


def require_scores(line: Line, *, allow_missing: bool = False) -> None:
    """Refuse to build on what is left when a reward gave too many numbers that are none; say fewer.

    Told from the tables, so that calling again changes nothing: a reject is done until it is asked again.

    Args:
        allow_missing: say so and go on.

    Raises:
        RpoError: names each such reward with its counts.
    """
    found = [item for item in unscored(line) if item.no_number]
    bad = [item for item in found if item.too_many]
    if bad and not allow_missing:
        run = line.store.url
        raise RpoError(
            "; ".join(f"score {_reward_line(item)}, more than {MOST:.0%}" for item in bad),
            f"mend the reward, then rpo build-pairs {run} --retry-rejects; --allow-missing goes on "
            "without these scores",
        )
    for item in found:
        line.say(f"score {_reward_line(item)}: rejects, until --retry-rejects")


def _reward_line(item: Unscored) -> str:
    tried = item.present + item.no_number
    return f"{item.reward}: {item.no_number:,} of {tried:,} scores are no numbers (NaN or infinite)"


def missing_notes(line: Line) -> list[str]:
    """For the card: rewards that lack scores of pictures, and by how many; nothing where all is scored."""
    return [
        f"The reward {item.reward} has no score of {item.missing:,} of {item.wanted:,} pictures"
        + (f" ({item.no_number:,} were no numbers)" if item.no_number else "")
        + (". It has no say in any pair." if not item.present else "; their pairs are dropped as unscored.")
        for item in unscored(line)
        if item.missing
    ]


def score_works(line: Line) -> list[Work]:
    """One work per reward: every live picture, original or edited, under its prompt."""
    subjects = [
        score.ScoreTask(
            *("image", row["image_id"], row["sha256"], row["prompt_id"], row["prompt"]),
            decoding=row["decoding"],
        )
        for row in live_images(line)
    ]
    if wants_edits(line):
        subjects += [
            score.ScoreTask("edit", row["edit_id"], row["sha256"], row["prompt_id"], row["prompt"])
            for row in light_rows(
                line, "edits", edit_work(line).keys, ["edit_id", "sha256", "prompt_id", "prompt"]
            )
        ]
    return [
        work
        for name, ref in reward_models(line)
        for work in (
            judge_works(line, name, ref)
            if name in registry.PAIRWISE
            else [_score_work(line, name, ref, subjects)]
        )
    ]


def _score_work(line: Line, reward: str, ref: str, subjects: Iterable[score.ScoreTask]) -> Work:
    s = line.settings.score
    model, settings = reward_identity(line, reward, ref)

    def stage(device: str, environment: str) -> Stage:
        options = {"revision": model.commit, "dtype": s.dtype, **critics.reward_options(line, reward)}
        build = partial(
            build_backend, "rewards", reward, critics.served_model(model), device=device, **options
        )
        finish = score.Finish(reward, settings, environment)
        return Stage(f"score {reward}", "rewards", s.batch_size, build, score.step, finish, score.bucket)

    return Work(
        f"score {reward}",
        "rewards",
        settings_group("score", settings, 0),
        settings,
        list(score.wanted(subjects, reward=reward, settings=settings)),
        (model,),
        stage,
        lambda task: (f"{task.payload.subject}s", task.payload.subject_id),
    )


def reward_models(line: Line) -> list[tuple[str, str]]:
    """(reward name, model) of every reward, ("name", "module:function") of every function."""
    return list(line.settings.score.named)
