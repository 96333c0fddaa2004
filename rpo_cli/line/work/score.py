"""The stage score: each reward of each picture, and scores that a reward did not give."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rpo_cli.errors import RpoError
from rpo_cli.identity import ModelIdentity
from rpo_cli.keysets import Keys, union
from rpo_cli.line.imports.sources import labelled_only
from rpo_cli.line.session import Line
from rpo_cli.line.work import base, critics
from rpo_cli.line.work.base import (
    LightRows,
    StagePlan,
    StageSpec,
    Work,
    keep_keys,
    light_rows,
    once,
    reject_reasons,
    settings_group,
    wants_edits,
    with_more,
)
from rpo_cli.line.work.critics import (
    check_python,
    check_reached,
    reward_identity,
    reward_models,
    scoring,
)
from rpo_cli.line.work.critique import SUBJECT
from rpo_cli.line.work.edit import CRITIQUES, check_counter_edits, edit_work
from rpo_cli.line.work.generate import live_images, require_pictures
from rpo_cli.line.work.model_checks import check_fits, check_models, whole_folder
from rpo_cli.line.work.pairwise import judge_works
from rpo_cli.protocols import Stage, Task, Weights
from rpo_cli.records import RewardScore
from rpo_cli.scopes import REWARDS
from rpo_cli.stages import score
from rpo_cli.stages.score import NO_NUMBER

SUBJECTS = "1 a picture or edit to come"
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


EDITS = (*CRITIQUES, "edits")  # tables that scores are wanted of


@once(*EDITS, "rewards", "rejects")
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
    keys = union(work.keys for work in works)
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


@dataclass(frozen=True)
class Subjects:
    """Every picture that the run wants and had when it was asked, original or edited, under its prompt."""

    images: LightRows
    edits: LightRows

    def __call__(self) -> Iterator[score.Shown]:
        for values in self.images.tuples(*SUBJECT):
            yield score.Shown("image", *values)
        for values in self.edits.tuples(*self.edits.columns):
            yield score.Shown("edit", *values)


def subjects(line: Line) -> Subjects:
    wanted = edit_work(line).keys if wants_edits(line) else Keys.of(())
    edits = light_rows(line, "edits", wanted, ("edit_id", "sha256", "prompt_id", "prompt"))
    return Subjects(live_images(line), edits)


def picture_of(task: Task) -> tuple[str, str]:
    """(table, id) of the picture of such a task."""
    return f"{task.payload.subject}s", task.payload.subject_id


@once(*EDITS)
def score_works(line: Line) -> list[Work]:
    """One work per reward, on every one of the subjects."""
    pictures = subjects(line)
    return [
        work
        for name, ref in scoring(line)
        for work in (
            judge_works(line, name, ref)
            if critics.entry_of(name).pairwise
            else [_score_work(line, name, ref, pictures)]
        )
    ]


def _score_work(line: Line, reward: str, ref: str, pictures: Subjects) -> Work:
    s = line.settings.score
    model, settings = reward_identity(line, reward, ref)

    def stage(device: str, environment: str) -> Stage:
        weights = Weights(critics.served_model(model), model.commit, device, s.dtype)
        options = critics.reward_options(line, reward)
        build = partial(base.build_backend, "rewards", reward, weights, **options)
        finish = score.Finish(reward, settings, environment)
        return Stage(f"score {reward}", "rewards", s.batch_size, build, score.step, finish, score.bucket)

    wanted = score.wanted(pictures, reward=reward, settings=settings)
    return Work(
        f"score {reward}",
        "rewards",
        settings_group("score", settings, 0),
        settings,
        (keep_keys(line, wanted, f"score {reward}", [pictures.images, pictures.edits], settings),),
        (model,),
        stage,
        picture_of,
    )


def check_rewards(line: Line) -> list[Callable[[], None]]:
    """Of every reward that is named, one check each, so that all that are wrong are told."""
    return [partial(check_reward, line, name, ref) for name, ref in reward_models(line)]


def check_reward(line: Line, name: str, ref: str) -> None:
    entry = critics.entry_of(name)
    if entry.template is not None:
        check_reached(line, line.settings.score.backend)
    if entry.apart:
        check_python("score.python", line.settings.score.python, "torch and transformers")
    found = whole_folder(reward_identity(line, name, ref)[0], REWARDS)
    check_models(line, [found])
    check_fits(line, REWARDS, lambda: [found])


def unnamed(line: Line) -> str | None:
    return None if line.settings.score.named or labelled_only(line) else REWARDS


def checks(line: Line) -> Sequence[Callable[[], Any]]:
    rewards = [partial(check_reward, line, name, ref) for name, ref in scoring(line)]
    return [partial(check_counter_edits, line), *rewards]


def say_unneeded(line: Line) -> None:
    """Whom a preset names, and who scores nothing."""
    left = [name for name, _ in reward_models(line) if name not in dict(scoring(line))]
    if left:
        line.say(
            f"no reward is needed: labels decide; {', '.join(left)} (preset {line.resolved.preset}) score "
            "nothing; --reward NAME=MODEL asks for one"
        )


def used_models(line: Line) -> Iterator[tuple[str, ModelIdentity, str]]:
    for name, ref in scoring(line):
        yield f"reward {name}", reward_identity(line, name, ref)[0], line.settings.score.dtype


def ahead(line: Line, plans: list[StagePlan], coming: dict[str, int]) -> list[StagePlan]:
    """A score a picture or edit to come; a judge has a work for each of both."""
    images, edits = coming["generate"], coming["edit"] if wants_edits(line) else 0
    names = [plan.stage for plan in plans]
    seen = [
        images + edits if names.count(name) == 1 else (images if names.index(name) == place else edits)
        for place, name in enumerate(names)
    ]
    return [with_more(line, SPEC, plan, rows, SUBJECTS) for plan, rows in zip(plans, seen, strict=True)]


SPEC = StageSpec(
    "score",
    RewardScore,
    score_works,
    used_models,
    "score",
    after="edit",
    step="build-pairs",
    used=lambda line: not labelled_only(line),
    unnamed=unnamed,
    checks=checks,
    requires=require_pictures,
    begin=say_unneeded,
    planned=say_unneeded,
    ahead=ahead,
    tolerant=True,
    links=("score_id", "subject_id", "prompt_id", "subject_sha256", "reward", "score"),
)
