"""The stage generate: pictures of prompts and noise, or of winners with noise put on (spin, sapo)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.exchange.prompts import PromptList, read_prompts
from rpo_cli.identity import ModelIdentity
from rpo_cli.installing import check_compiler
from rpo_cli.keysets import digests, order_of, union
from rpo_cli.line.imports.sources import generates, imported
from rpo_cli.line.session import Line
from rpo_cli.line.work import base, models
from rpo_cli.line.work.base import (
    LightRows,
    StagePlan,
    StageSpec,
    Work,
    keep_keys,
    kept,
    light_rows,
    once,
    settings_group,
    tuples_of,
)
from rpo_cli.line.work.model_checks import check_generator, check_scheduler, warn_of_words
from rpo_cli.protocols import Stage, Task, Wanted
from rpo_cli.records import Image, canonical_json, content_key
from rpo_cli.scopes import GENERATOR
from rpo_cli.stages import generate, opponents
from rpo_cli.store import open_store


@dataclass(frozen=True)
class Making:
    """What `generate` wants, and the kind of backend, step and bucket that serve it."""

    wanted: Wanted
    kind: str = "generators"  # of the backend, in the registry
    step: Callable[[Sequence[Task], Any, int], list[Any]] = generate.step
    bucket: Callable[[Task], Any] = generate.bucket
    picture_of: Callable[[Task], tuple[str, str]] | None = None


def making(line: Line, settings: str) -> Making:
    """For `settings`, the canonical JSON of all that a picture's key holds.

    Raises:
        UsageError: losers are to be made, and no winner is given.
    """
    s, seed = line.settings.generate, line.settings.run.seed
    if line.settings.pairs.strategy not in opponents.STRATEGIES:
        taken = line.store.read_manifest().get("prompts", {})
        prompts = partial(live_prompts, line, taken.get("group"))
        wanted = generate.wanted(prompts, count=s.images_per_prompt, seed=seed, settings=settings)
        return Making(keep_keys(line, wanted, "generate", (), settings, canonical_json(taken)))
    found = opponents.wanted(
        winners(line), count=s.images_per_prompt, seed=seed, settings=settings, strengths=s.strengths
    )
    if not s.strengths:
        return Making(found)
    return Making(
        found,
        "renoisers",
        opponents.step,
        opponents.bucket,
        lambda task: ("images", task.input_id),
    )


def winners(line: Line) -> list[opponents.Winner]:
    """The imported pictures that were not made to lose themselves, by key.

    Raises:
        UsageError: there are none.
    """
    given = imported(line, "images")
    columns = ["image_id", "sha256", "prompt_id", "prompt", "against", "decoding"]
    found = [
        opponents.Winner(
            *(row["image_id"], row["sha256"], row["prompt_id"], row["prompt"]), decoding=row["decoding"]
        )
        for row in line.store.columns("images", columns, among=given).to_pylist()
        if row["against"] is None
    ]
    if not found:
        raise UsageError(
            f"{line.store.url}: no winners are given, and pairs.strategy = "
            f"{line.settings.pairs.strategy} needs some",
            "`rpo train RUN --method spin --rounds K` gives those of RUN/dataset to its rounds",
        )
    return sorted(found, key=lambda winner: winner.image_id)


@once()
def generate_work(line: Line) -> Work:
    s = line.settings.generate
    chosen = models.generator(line)
    settings = canonical_json(chosen.said)
    made = making(line, settings)

    def stage(device: str, environment: str) -> Stage:
        name = chosen.name if made.kind == "generators" else "diffusers"
        build = partial(base.build_backend, made.kind, name, chosen.weights(device), **chosen.options)
        finish = generate.Finish(settings, environment)
        return Stage("generate", "images", s.batch_size, build, made.step, finish, made.bucket)

    group = settings_group("generate", settings, line.settings.run.seed)
    return Work(
        "generate", "images", group, settings, (made.wanted,), chosen.models, stage, made.picture_of
    )


IMAGES = ("images", "claims")  # tables that pictures are read from


@once(*IMAGES)
def live_images(line: Line) -> LightRows:
    """Light rows of the pictures that the settings want or that were imported, and that are there."""
    columns = ["image_id", "sha256", "prompt_id", "prompt", "index", "decoding"]
    drawn = [generate_work(line).keys] if generates(line) else []
    return light_rows(line, "images", union([*drawn, imported(line, "images")]), columns)


PROMPTS = "prompts' source"  # in the memory of a line, until its prompts are taken


def prompts_of(line: Line) -> PromptList:
    """What the prompts' source holds, read once for the door and the stage."""
    if PROMPTS not in line.memory:
        line.memory[PROMPTS] = (None, read_prompts(line.settings.prompts))
    found: PromptList = line.memory[PROMPTS][1]
    return found


def take_prompts(line: Line) -> None:
    """Read the prompts' source and commit those that are new; run.json says which rows are meant now.

    A run that has prompts keeps them when its source is gone, unless the source is asked for again.
    """
    found = prompts_of(line)
    del line.memory[PROMPTS]
    for text in () if line.nested else found.account():
        line.say(text)
    prompts = found.prompts
    group = content_key("prompts", [prompt.prompt_id for prompt in prompts])[:8]
    said: dict[str, Any] = {"group": group, "source": prompts[0].source, "count": len(prompts)}
    known = line.store.read_manifest().get("prompts", {})
    if found.kept_out or "kept_out" in known:
        said["kept_out"] = found.kept_out
    if known == said:
        return
    if known.get("group") != group:
        line.store.commit("prompts", prompts, group=group)
    line.record(prompts=said)


def live_prompts(line: Line, group: str | None = None) -> Iterator[tuple[str, str]]:
    """(prompt_id, prompt) of the run's current prompts, in order of prompt_id.

    Args:
        group: of the prompts that are meant; None: those of run.json now.
    """
    if line.planned is not None:
        yield from line.planned
        return
    manifest = line.store.read_manifest()
    group = group or manifest.get("prompts", {}).get("group")
    if group is None and "imports" in manifest:
        return  # imported prompts have their pictures
    table = line.store.columns("prompts", ["prompt_id", "prompt"], group=group)
    yield from tuples_of(table.combine_chunks(), order_of(digests(table["prompt_id"])))


def parent_prompts(line: Line) -> list[str]:
    """The prompts of the run, or those it would have; of both splits: `build-pairs` holds some out.

    Raises:
        UsageError: the run has none and its settings name none.
    """
    if "prompts" in line.store.read_manifest():
        return [prompt for _, prompt in live_prompts(line)]
    return sorted(prompt.prompt for prompt in read_prompts(line.settings.prompts).prompts)


def read_planned(line: Line) -> None:
    """Read the prompts that `generate` would take into the run, and take none."""
    found = read_prompts(line.settings.prompts)
    for text in () if line.nested else found.account():
        line.say(text)
    line.planned = sorted((prompt.prompt_id, prompt.prompt) for prompt in found.prompts)


def works(line: Line) -> list[Work]:
    return [generate_work(line)] if generates(line) else []


def begin(line: Line) -> None:
    """Take the prompts, and say what the generator will not understand, before it draws what is missing."""
    take_prompts(line)
    (work,) = works(line) or (None,)
    if work is not None and not work.keys <= line.store.keys(work.table):
        warn_of_words(line, work.models[0], (prompt for _, prompt in live_prompts(line)))


def wants_pictures(line: Line) -> bool:
    """False in a run of imports whose only prompts would be those of its preset."""
    origins = [line.resolved.origins[f"prompts.{name}"] for name in ("file", "dataset")]
    own = any(origin != "default" and not origin.startswith("preset ") for origin in origins)
    return own or generates(line)


def unnamed(line: Line) -> str | None:
    return GENERATOR if line.settings.generate.generator is None and generates(line) else None


def checks(line: Line) -> Sequence[Callable[[], Any]]:
    s = line.settings
    return [
        # a file is quick to read; a dataset of the hub is read once, by the stage
        *([partial(prompts_of, line)] if s.prompts.dataset is None else []),
        partial(check_generator, line),
        *([partial(check_scheduler, s.generate.scheduler)] if s.generate.scheduler else []),
        *([partial(check_compiler, "generate.compile")] if s.generate.compile else []),
    ]


def used_models(line: Line) -> Iterator[tuple[str, ModelIdentity, str]]:
    for model in models.generator(line).models:
        yield "generator", model, line.settings.generate.dtype


def ahead(line: Line, plans: list[StagePlan], coming: dict[str, int]) -> list[StagePlan]:
    """Pictures are counted exactly: from the prompts."""
    coming["generate"] = sum(map(kept, plans))
    return [replace(plan, basis="the prompts") for plan in plans]


def require_pictures(line: Line) -> None:
    """Refuse a run without live pictures.

    Raises:
        UsageError: there is no run here, or no picture of these settings.
    """
    run = line.store.url
    open_store(run)
    if not live_images(line):
        raise UsageError(
            f"{run}: there are no pictures of these settings yet",
            f"rpo generate {run} makes them; rpo import {run} SOURCE takes others",
        )


SPEC = StageSpec(
    "generate",
    Image,
    works,
    used_models,
    "image",
    role="generator",
    used=wants_pictures,
    unnamed=unnamed,
    checks=checks,
    begin=begin,
    planned=read_planned,
    ahead=ahead,
    text=("prompt", "prompts"),
    links=("image_id", "prompt_id", "sha256"),
)
