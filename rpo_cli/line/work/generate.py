"""What `generate` makes pictures of: prompts and noise, or winners that are given to it (spin, sapo)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.exchange.prompts import read_prompts
from rpo_cli.line.imports.sources import generates, imported
from rpo_cli.line.session import Line
from rpo_cli.line.work import models
from rpo_cli.line.work.base import Work, build_backend, light_rows, once, settings_group
from rpo_cli.protocols import Stage, Task
from rpo_cli.records import canonical_json, content_key
from rpo_cli.stages import generate, opponents


@dataclass(frozen=True)
class Making:
    """The tasks of `generate`, and the kind of backend, step and bucket that serve them."""

    tasks: list[Task]
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
        prompts = live_prompts(line)
        tasks = generate.wanted(prompts, count=s.images_per_prompt, seed=seed, settings=settings)
        return Making(list(tasks))
    found = opponents.wanted(
        winners(line), count=s.images_per_prompt, seed=seed, settings=settings, strengths=s.strengths
    )
    if not s.strengths:
        return Making(list(found))
    return Making(
        list(found),
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
        for row in line.store.columns("images", columns).to_pylist()
        if row["image_id"] in given and row["against"] is None
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
        options = {**chosen.options, "device": device}
        name = chosen.name if made.kind == "generators" else "diffusers"
        build = partial(build_backend, made.kind, name, chosen.models[0].ref, **options)
        finish = generate.Finish(settings, environment)
        return Stage("generate", "images", s.batch_size, build, made.step, finish, made.bucket)

    group = settings_group("generate", settings, line.settings.run.seed)
    return Work("generate", "images", group, settings, made.tasks, chosen.models, stage, made.picture_of)


@once("images", "claims")
def live_images(line: Line) -> list[dict[str, Any]]:
    """Light rows of the pictures that the settings want or that were imported, and that are there."""
    columns = ["image_id", "sha256", "prompt_id", "prompt", "index", "decoding"]
    wanted = generate_work(line).keys if generates(line) else set()
    return light_rows(line, "images", wanted | imported(line, "images"), columns)


def take_prompts(line: Line) -> None:
    """Read the prompts' source and commit those that are new; run.json says which rows are meant now.

    A run that has prompts keeps them when its source is gone, unless the source is asked for again.
    """
    found = read_prompts(line.settings.prompts)
    for text in () if line.nested else found.said():
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


def live_prompts(line: Line) -> Iterator[tuple[str, str]]:
    """(prompt_id, prompt) of the run's current prompts, in order of prompt_id."""
    if line.planned is not None:
        yield from line.planned
        return
    manifest = line.store.read_manifest()
    group = manifest.get("prompts", {}).get("group")
    if group is None and "imports" in manifest:
        return  # imported prompts have their pictures
    table = line.store.columns("prompts", ["prompt_id", "prompt"], group=group)
    yield from sorted(zip(table["prompt_id"].to_pylist(), table["prompt"].to_pylist(), strict=True))


def parent_prompts(line: Line) -> list[str]:
    """The prompts of the run, or those it would have; of both splits: `build-pairs` holds some out.

    Raises:
        UsageError: the run has none and its settings name none.
    """
    if "prompts" in line.store.read_manifest():
        return [prompt for _, prompt in live_prompts(line)]
    return sorted(prompt.prompt for prompt in read_prompts(line.settings.prompts).prompts)
