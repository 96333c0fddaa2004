"""What a stage of a run still has to do: its wanted rows, and how to make them.

The rows that are wanted follow from the settings and from the rows upstream that are wanted themselves,
so rows of older settings or prompts never reach a later stage.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial, wraps
from typing import Any, TypeVar

from rpo_cli import registry, templates
from rpo_cli.identity import ModelIdentity
from rpo_cli.line.imports.sources import generates, imported, imported_feedback
from rpo_cli.line.session import Line
from rpo_cli.line.work import critics, models
from rpo_cli.line.work import critique as styles
from rpo_cli.line.work.generate import making
from rpo_cli.protocols import Stage, Task
from rpo_cli.records import canonical_json, content_key
from rpo_cli.stages import critique, edit, generate

Made = TypeVar("Made")


def once(*tables: str) -> Callable[[Callable[[Line], Made]], Callable[[Line], Made]]:
    """Compute again only when the prompts are others or one of these tables has other parts.

    Every stage asks for the wanted rows of all stages before it, and they are many. Settings, models and
    templates are looked at once per Line.
    """

    def decorate(function: Callable[[Line], Made]) -> Callable[[Line], Made]:
        @wraps(function)
        def remembered(line: Line) -> Made:
            parts = [part.name for table in tables for part in line.store.parts(table)]
            manifest = line.store.read_manifest()
            state = (line.planned, manifest.get("prompts"), manifest.get("imports"), parts)
            if line.memory.get(function.__name__, (None,))[0] != state:
                line.memory[function.__name__] = (state, function(line))
            found: Made = line.memory[function.__name__][1]
            return found

        return remembered

    return decorate


@dataclass(frozen=True)
class Work:
    """One stage of a run, before anything heavy is loaded.

    Attributes:
        tasks: every wanted row, present ones too, without pictures.
        group: folder of the rows that these settings make.
        stage: (device, environment JSON) → the stage; called only when a row is missing.
        picture_of: task → (table, id) of the picture it needs; None where it needs none.
        other_of: task → id of the image it is compared with; None where it is compared with none.
    """

    name: str
    table: str
    group: str
    settings: str
    tasks: list[Task]
    models: tuple[ModelIdentity, ...]
    stage: Callable[[str, str], Stage]
    picture_of: Callable[[Task], tuple[str, str]] | None = None
    other_of: Callable[[Task], str | None] | None = None

    @cached_property
    def keys(self) -> set[str]:
        return {task.key for task in self.tasks}


def settings_group(stage: str, settings: str, seed: int) -> str:
    """The folder name of a stage's rows: 8 hex digits of everything that the settings say."""
    return content_key(stage, settings, seed)[:8]


def light_rows(line: Line, table: str, keys: set[str], columns: list[str]) -> list[dict[str, Any]]:
    """The live rows of a table, without pictures, in order of their key (the first of `columns`)."""
    rows = line.store.columns(table, columns).to_pylist()
    live = {row[columns[0]]: row for row in rows if row[columns[0]] in keys}
    return [live[key] for key in sorted(live)]


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


@once("images", "claims")
def critique_work(line: Line) -> Work:
    s = line.settings.critique
    model = critics.critic_identity(line)
    asked = templates.Templates.find(line.templates, styles.style(line))
    settings = canonical_json(styles.critique_settings(line, model.revision, asked.hashes))
    seed = line.settings.run.seed
    people = {} if s.single_turn else imported_feedback(line)
    tasks = critique.wanted(live_images(line), seed=seed, settings=settings, said=people)

    def stage(device: str, environment: str) -> Stage:
        options = {"revision": model.commit, "dtype": s.dtype, **critics.critic_options(line)}
        build = partial(
            build_backend, "critics", s.backend, critics.served_model(model), device=device, **options
        )
        step = critique.make_step(s, asked, settings, environment, quotes=not styles.is_embedded(line))
        return Stage("critique", "critiques", s.batch_size, build, step, bucket=critique.bucket)

    return Work(
        "critique",
        "critiques",
        settings_group("critique", settings, seed),
        settings,
        list(tasks),
        (model,),
        stage,
        lambda task: ("images", task.payload.image_id),
    )


@once("images", "critiques", "claims")
def edit_work(line: Line) -> Work:
    s = line.settings.edit
    chosen = models.editor(line)
    settings = canonical_json(chosen.said)
    seed, taken = line.settings.run.seed, line.settings.pairs.edits
    numbers = {"guidance": chosen.guidance, "image_guidance": chosen.image_guidance}
    said: dict[str, Any] = {**numbers, "seed": seed, "settings": settings}
    critiques = list(critiqued(line))
    tasks: list[Task] = []
    if taken != "counter":
        tasks += edit.wanted(critiques, mode=s.mode, attempts=s.edits_per_image, **said)
    if taken != "answers":
        tasks += edit.wanted_counter_edits(critiques, count=s.counter_edits, **said)

    def stage(device: str, environment: str) -> Stage:
        options = {**chosen.options, "device": device}
        build = partial(build_backend, "editors", chosen.name, chosen.models[0].ref, **options)
        finish = edit.Finish(settings, environment)
        return Stage("edit", "edits", s.batch_size, build, edit.step, finish, edit.bucket)

    return Work(
        "edit",
        "edits",
        settings_group("edit", settings, seed),
        settings,
        tasks,
        chosen.models,
        stage,
        lambda task: ("images", task.payload.source.image_id),
    )


def edits_and_floor(line: Line) -> Work:
    """All that the edit stage makes: the edits, and beside any the pictures edited for the floor."""
    work = edit_work(line)
    return replace(work, tasks=[*work.tasks, *floor_tasks(line)])


@once("images", "critiques", "claims")
def floor_tasks(line: Line) -> list[Task]:
    """Pictures to edit under an empty instruction; none where nothing is to be edited."""
    s = line.settings.edit
    if not s.floor_pictures or not edit_work(line).tasks:
        return []
    chosen = models.editor(line)
    pictures = (
        edit.Critiqued(
            *("", row["image_id"], row["sha256"], row["prompt_id"], row["prompt"], ()), row["decoding"]
        )
        for row in live_images(line)
    )
    found = edit.wanted_floor(
        pictures,
        count=s.floor_pictures,
        guidance=chosen.guidance,
        image_guidance=chosen.image_guidance,
        seed=line.settings.run.seed,
        settings=canonical_json(chosen.said),
    )
    return list(found)


def critiqued(line: Line) -> Iterator[edit.Critiqued]:
    """The live critiques, by key."""
    images = {(row["sha256"], row["prompt_id"]): row for row in live_images(line)}
    columns = ["critique_id", "image_sha256", "prompt_id", "prompt", "instructions"]
    for row in light_rows(line, "critiques", critique_work(line).keys, columns):
        image = images[row["image_sha256"], row["prompt_id"]]
        told = {"image_id": image["image_id"], "decoding": image["decoding"]}
        yield edit.Critiqued(**{**row, "instructions": tuple(row["instructions"]), **told})


def wants_edits(line: Line) -> bool:
    """Whether edits take part in the pairs, so that a critic and an editor are needed."""
    return line.settings.pairs.strategy in ("edits", "all")


def reward_models(line: Line) -> list[tuple[str, str]]:
    """(reward name, model) of every reward, ("name", "module:function") of every function."""
    return list(line.settings.score.named)


def build_backend(kind: str, name: str, model: str, **options: Any) -> Any:
    if kind == "rewards":
        return critics.built_reward(name, model, **options)
    return registry.load(kind, name)(model, **options)


def reject_reasons(line: Line, work: Work, keys: set[str]) -> Counter[str]:
    """Reasons of the rejects among `keys` that no row has replaced since."""
    table = line.store.columns("rejects", ["key_of", "stage", "reason"]).to_pylist()
    stopped = {row["key_of"]: row["reason"] for row in table if row["key_of"] in keys}
    present = line.store.keys(work.table) if stopped else set()
    return Counter(reason for key, reason in stopped.items() if key not in present)
