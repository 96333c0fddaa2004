"""The stage critique: with which words a run's critic is asked, and all that determines what it says."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from rpo_cli import templates
from rpo_cli.identity import ModelIdentity
from rpo_cli.line.imports.sources import imported_feedback
from rpo_cli.line.session import Line
from rpo_cli.line.work import base, critics
from rpo_cli.line.work import critique as styles
from rpo_cli.line.work.base import (
    StagePlan,
    StageSpec,
    Work,
    keep_keys,
    kept,
    once,
    settings_group,
    wants_edits,
    with_more,
)
from rpo_cli.line.work.critics import (
    REACHED,
    SERVED,
    check_reached,
    code_settings,
    critic_identity,
    server_settings,
)
from rpo_cli.line.work.generate import IMAGES, live_images, require_pictures
from rpo_cli.line.work.model_checks import check_fits, check_models, whole_folder
from rpo_cli.protocols import Stage, Weights
from rpo_cli.records import Critique, canonical_json
from rpo_cli.scopes import CRITIC
from rpo_cli.shapes.preset import MODELS
from rpo_cli.stages import critique

REPLIES = 2  # version of how a reply is read; the embedded critic's replies read the same in all
EMBEDDED, GENERAL = "rpo", "general"  # styles
SUBJECT = ("image_id", "sha256", "prompt_id", "prompt", "decoding")


def is_embedded(line: Line) -> bool:
    """Whether the critic is the embedded one, which has learned one form of question and reply."""
    s = line.settings.critique
    of_preset = line.resolved.origins["critique.critic"].startswith("preset ")
    if s.critic is None or (s.backend == SERVED and of_preset):  # the server's is another
        return False
    return os.path.realpath(s.critic) == os.path.realpath(MODELS / "critic")


def style(line: Line) -> str:
    """The style of the templates that the critic is asked with.

    Where nobody names one: general; what the embedded critic has learned; and where a run has words of its
    own for the style that was everybody's before there was `general`, and none for that one, those.
    """
    if line.settings.critique.template:
        return line.settings.critique.template
    own = {name: _hashes(line, name) != _hashes(None, name) for name in (EMBEDDED, GENERAL)}
    return EMBEDDED if is_embedded(line) or (own[EMBEDDED] and not own[GENERAL]) else GENERAL


def _hashes(line: Line | None, name: str) -> dict[str, str]:
    return templates.Templates.find(line.templates if line else None, name).hashes


def critique_settings(line: Line, model: str, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Everything that determines a critique, beside the picture and its prompt.

    How a reply is read is no part of it for the embedded critic: its replies read the same in all versions.
    """
    s = line.settings.critique
    left_out = {"critic", "revision", "template", "batch_size", "chat_template_kwargs", *REACHED}
    said = s.model_dump(exclude=left_out) | server_settings(s) | code_settings("critics", s.backend)
    said |= {"chat_template_kwargs": s.chat_template_kwargs} if s.chat_template_kwargs else {}
    said |= {} if is_embedded(line) else {"replies": REPLIES}
    return {**said, "model": model, "templates": dict(hashes)}


def reread_notes(line: Line, settings: str) -> list[str]:
    """That critiques of an earlier rpo are asked for again, where this critic has made any."""
    now = json.loads(settings)
    if "replies" not in now:
        return []
    counts = line.store.tally("critiques", ["settings"])
    rows = [(json.loads(text), count) for (text,), count in counts.items()]
    old = sum(
        count
        for row, count in rows
        if row.get("model") == now["model"] and row.get("replies") != now["replies"]
    )
    if not old:
        return []
    return [
        f"an earlier rpo read {old:,} of this critic's replies, and took sentences of no change for "
        "instructions; those critiques stay, and their pictures are critiqued again"
    ]


def critic_loader(line: Line, model: ModelIdentity, device: str) -> Callable[[], Any]:
    """What builds the run's critic on a worker; it travels there."""
    s = line.settings.critique
    weights = Weights(critics.served_model(model), model.commit, device, s.dtype)
    return partial(base.build_backend, "critics", s.backend, weights, **critics.critic_options(line))


@once(*IMAGES)
def critique_work(line: Line) -> Work:
    s = line.settings.critique
    model = critics.critic_identity(line)
    asked = templates.Templates.find(line.templates, styles.style(line))
    settings = canonical_json(styles.critique_settings(line, model.revision, asked.hashes))
    seed = line.settings.run.seed
    people = {} if s.single_turn else imported_feedback(line)
    images = live_images(line)
    pictures = partial(images.tuples, *SUBJECT)
    wanted = critique.wanted(pictures, seed=seed, settings=settings, said=people)
    words = canonical_json(sorted((*shown, text) for shown, text in people.items()))
    wanted = keep_keys(line, wanted, "critique", [images], settings, words)

    def stage(device: str, environment: str) -> Stage:
        build = critic_loader(line, model, device)
        step = critique.make_step(s, asked, settings, environment, quotes=not styles.is_embedded(line))
        return Stage("critique", "critiques", s.batch_size, build, step, bucket=critique.bucket)

    return Work(
        "critique",
        "critiques",
        settings_group("critique", settings, seed),
        settings,
        (wanted,),
        (model,),
        stage,
        lambda task: ("images", task.payload.image_id),
    )


def check_critic(line: Line) -> None:
    check_models(line, [whole_folder(critic_identity(line), CRITIC)])


def works(line: Line) -> list[Work]:
    return [critique_work(line)]


def unnamed(line: Line) -> str | None:
    s = line.settings.critique
    return CRITIC if s.critic is None and s.backend != SERVED else None


def checks(line: Line) -> Sequence[Callable[[], Any]]:
    return [
        partial(check_reached, line, line.settings.critique.backend),
        partial(check_critic, line),
        partial(check_fits, line, CRITIC, lambda: [critics.critic_identity(line)]),
        lambda: templates.Templates.find(line.templates, style(line)),
    ]


def used_models(line: Line) -> Iterator[tuple[str, ModelIdentity, str]]:
    yield "critic", critics.critic_identity(line), line.settings.critique.dtype


def ahead(line: Line, plans: list[StagePlan], coming: dict[str, int]) -> list[StagePlan]:
    found = [with_more(line, SPEC, plan, coming["generate"], "1 a picture to come") for plan in plans]
    coming["critique"] = sum(map(kept, found))
    return found


SPEC = StageSpec(
    "critique",
    Critique,
    works,
    used_models,
    "critique",
    after="generate",
    role="critic",
    used=wants_edits,
    unnamed=unnamed,
    checks=checks,
    requires=require_pictures,
    again=reread_notes,
    ahead=ahead,
    links=("critique_id", "prompt_id", "image_sha256", "instructions"),
)
