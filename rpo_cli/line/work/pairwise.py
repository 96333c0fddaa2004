"""The works of a reward that judges pairs: images against the first of their prompt, then edits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from rpo_cli.line.session import Line
from rpo_cli.line.work import base, critics
from rpo_cli.line.work.base import Work, light_rows, settings_group, wants_edits
from rpo_cli.line.work.edit import edit_work
from rpo_cli.line.work.generate import live_images
from rpo_cli.protocols import Stage, Weights
from rpo_cli.records import canonical_json
from rpo_cli.stages import score

Row = Mapping[str, Any]
EDITED = ["edit_id", "sha256", "prompt_id", "prompt", "image_id", "image_sha256"]


def judge_works(line: Line, reward: str, ref: str) -> list[Work]:
    """One work for the images, one for the edits if they take part in the pairs."""
    images = live_images(line)

    def prompts() -> Iterator[tuple[str, list[Row]]]:
        return ((prompt_id, list(rows)) for prompt_id, rows in groupby(images, itemgetter("prompt_id")))

    def judged() -> Iterator[score.JudgeTask]:
        for _, rows in prompts():
            yield from (_image(row, _first(rows)) for row in rows)

    of_images = _work(line, reward, ref, judged)
    if not wants_edits(line):
        return [of_images]
    edits = light_rows(line, "edits", edit_work(line).keys, EDITED)

    def edited() -> Iterator[score.JudgeTask]:
        originals = prompts()
        for prompt_id, theirs in groupby(edits, itemgetter("prompt_id")):
            rows = next(rows for of, rows in originals if of == prompt_id)
            decodings = {row["sha256"]: row["decoding"] for row in rows}
            yield from (_edit(row, _first(rows), decodings[row["image_sha256"]]) for row in theirs)

    return [of_images, _work(line, reward, ref, edited, of_images)]


def _first(rows: Sequence[Row]) -> Row:
    """The picture of a prompt that its others are judged against."""
    return min(rows, key=lambda row: (row["index"], row["sha256"]))


def _image(row: Row, first: Row) -> score.JudgeTask:
    alone = row["sha256"] == first["sha256"]
    return score.JudgeTask(
        "image",
        row["image_id"],
        row["sha256"],
        row["prompt_id"],
        row["prompt"],
        other_id=None if alone else first["image_id"],
        other_sha256="" if alone else first["sha256"],
        first_sha256=first["sha256"],
        decoding=row["decoding"],
        other_decoding=None if alone else first["decoding"],
        first_decoding=first["decoding"],
    )


def _edit(row: Row, first: Row, decoding: str | None) -> score.JudgeTask:
    return score.JudgeTask(
        "edit",
        row["edit_id"],
        row["sha256"],
        row["prompt_id"],
        row["prompt"],
        other_id=row["image_id"],
        other_sha256=row["image_sha256"],
        first_sha256=first["sha256"],
        other_decoding=decoding,
        first_decoding=first["decoding"],
    )


def _work(
    line: Line,
    reward: str,
    ref: str,
    subjects: Callable[[], Iterator[score.JudgeTask]],
    before: Work | None = None,
) -> Work:
    s = line.settings.score
    model, said = critics.reward_identity(line, reward, ref)
    settings = canonical_json({"judged": said})

    def stage(device: str, environment: str) -> Stage:
        weights = Weights(critics.served_model(model), model.commit, device, s.dtype)
        options = critics.reward_options(line, reward)
        build = partial(base.build_backend, "rewards", reward, weights, **options)
        finish = score.Standing(score.Finish(reward, settings, environment), _scores(line, before))
        return Stage(
            f"score {reward}",
            "rewards",
            s.batch_size,
            build,
            score.step_judgements,
            finish,
            score.bucket_judgements,
        )

    return Work(
        f"score {reward}",
        "rewards",
        settings_group("score", settings, 0),
        settings,
        (score.wanted_judgements(subjects, reward=reward, settings=settings),),
        (model,),
        stage,
        lambda task: (f"{task.payload.subject}s", task.payload.subject_id),
        lambda task: task.payload.other_id,
    )


def _scores(line: Line, before: Work | None) -> dict[tuple[str, str], float]:
    """(prompt_id, sha256) → score of the images, which are judged by now."""
    if before is None:
        return {}
    columns = ["score_id", "prompt_id", "subject_sha256", "score"]
    rows = light_rows(line, "rewards", before.keys, columns)
    return {(row["prompt_id"], row["subject_sha256"]): row["score"] for row in rows}
