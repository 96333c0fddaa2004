"""The stage edit: instructions carried out, counter-edits, and the floor, edits that ask for nothing."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, product
from operator import itemgetter
from typing import Any

from rpo_cli import keysets
from rpo_cli.errors import CorruptImage, UsageError
from rpo_cli.identity import ModelIdentity
from rpo_cli.keysets import MANY, WIDTH, Keys
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
    reject_reasons,
    settings_group,
    wants_edits,
    with_more,
)
from rpo_cli.line.work.critique import SUBJECT, critique_work
from rpo_cli.line.work.generate import IMAGES, live_images, require_pictures
from rpo_cli.line.work.model_checks import check_editor, check_fits, check_scheduler
from rpo_cli.pictures import decode, mean_absolute_difference, to_array
from rpo_cli.protocols import Stage, Wanted
from rpo_cli.records import Edit, Image, canonical_json
from rpo_cli.scopes import EDITOR
from rpo_cli.stages import edit
from rpo_cli.stages.edit import NO_FLOOR, Guidances, floor_of
from rpo_cli.store import Store


@dataclass(frozen=True)
class Floors:
    """Guidances → change of an edit that was asked for nothing, and on how many pictures in all."""

    by: Mapping[Guidances, float]
    pictures: int


def measured(store: Store, keys: Set[str]) -> Floors:
    """Of the rows of the floor that are there; a picture that cannot be read has no say."""
    edits = [row for row in store.fetch("edits", keys & store.keys("edits")) if isinstance(row, Edit)]
    ids = {row.image_id for row in edits} & store.keys("images")
    images = {row.key: row for row in store.fetch("images", ids) if isinstance(row, Image)}
    changes: dict[Guidances, list[float]] = defaultdict(list)
    for row in edits:
        try:
            before, after = (
                to_array(decode(data)) for data in (images[row.image_id].image.bytes, row.image.bytes)
            )
        except (CorruptImage, KeyError):  # KeyError: its original belongs to older settings and is gone
            continue
        changes[row.guidance, row.image_guidance].append(mean_absolute_difference(before, after))
    by = {key: floor_of(found) for key, found in changes.items()}
    return Floors(by, sum(map(len, changes.values())))


def floor_keys(line: Line) -> Keys:
    found = floor_wanted(line)
    return Keys.of(()) if found is None else Keys.distinct(keysets.packed(found.packed))


def floor_size(line: Line, to_come: int) -> int:
    """Edits of the floor once that many more pictures are there."""
    chosen = models.editor(line)
    pictures = len({sha256 for (sha256,) in live_images(line).tuples("sha256")}) + to_come
    grid = len(set(product(chosen.guidance, chosen.image_guidance)))
    return min(line.settings.edit.floor_pictures, pictures) * grid


def floor_notes(line: Line) -> Iterator[str]:
    """Why an editor has no floor, or not yet; nothing where it has one."""
    keys = floor_keys(line)
    there = keys & line.store.keys("edits")
    if not keys or there:
        return
    refused = reject_reasons(line, edits_and_floor(line), keys)[NO_FLOOR]
    given = f"pairs.min_change = {line.settings.pairs.min_change:g} alone says which edits changed nothing"
    if refused:
        yield f"edit floor: the editor refuses an empty instruction ({refused:,} of {len(keys):,}); {given}"
    else:
        yield f"edit floor: not measured, rpo edit {line.store.url} does it; {given}"


def floor_edits(store: Store, group: str) -> set[str]:
    """Keys of a group's rows that are of the floor: pictures that take part in nothing."""
    rows = store.columns("edits", ["edit_id", "purpose"], group=group)
    return set(rows.filter(keysets.is_equal(rows["purpose"], "floor"))["edit_id"].to_pylist())


def taking_part(store: Store, table: str) -> dict[str, int]:
    """Group → rows of a table, without those of the floor."""
    counts = store.counts(table)
    if table != "edits":
        return counts
    apart = {group: store.tally(table, ["purpose"], group=group)["floor",] for group in counts}
    return {group: count - apart[group] for group, count in counts.items()}


CRITIQUES = (*IMAGES, "critiques")  # tables that edits are wanted of


@once(*CRITIQUES)
def edit_work(line: Line) -> Work:
    s = line.settings.edit
    chosen = models.editor(line)
    settings = canonical_json(chosen.said)
    seed, taken = line.settings.run.seed, line.settings.pairs.edits
    numbers = {"guidance": chosen.guidance, "image_guidance": chosen.image_guidance}
    said: dict[str, Any] = {**numbers, "seed": seed, "settings": settings}
    images, said_of = live_images(line), live_critiques(line)
    critiques = critiqued(images, said_of)
    answers = edit.wanted(critiques, mode=s.mode, attempts=s.edits_per_image, **said)
    counters = edit.wanted_counter_edits(critiques, count=s.counter_edits, **said)
    kinds = {"answers": {"edit": answers}, "counter": {"counter-edit": counters}}
    wanted = tuple(
        keep_keys(line, kind, name, [images, said_of], settings)
        for name, kind in kinds.get(taken, kinds["answers"] | kinds["counter"]).items()
    )

    def stage(device: str, environment: str) -> Stage:
        weights = chosen.weights(device)
        build = partial(base.build_backend, "editors", chosen.name, weights, **chosen.options)
        finish = edit.Finish(settings, environment)
        return Stage("edit", "edits", s.batch_size, build, edit.step, finish, edit.bucket)

    return Work(
        "edit",
        "edits",
        settings_group("edit", settings, seed),
        settings,
        wanted,
        chosen.models,
        stage,
        lambda task: ("images", task.payload.source.image_id),
    )


def edits_and_floor(line: Line) -> Work:
    """All that the edit stage makes: the edits, and beside any the pictures edited for the floor."""
    work, floor = edit_work(line), floor_wanted(line)
    return work if floor is None else replace(work, wanted=(*work.wanted, floor))


@once(*CRITIQUES)
def floor_wanted(line: Line) -> Wanted | None:
    """Pictures to edit under an empty instruction; None where nothing is to be edited."""
    s = line.settings.edit
    if not s.floor_pictures or not edit_work(line).keys:
        return None
    chosen, images = models.editor(line), live_images(line)

    def pictures() -> Iterator[edit.Critiqued]:
        for image_id, sha256, prompt_id, prompt, decoding in images.tuples(*SUBJECT):
            yield edit.Critiqued("", image_id, sha256, prompt_id, prompt, (), decoding)

    settings = canonical_json(chosen.said)
    found = edit.wanted_floor(
        pictures,
        count=s.floor_pictures,
        guidance=chosen.guidance,
        image_guidance=chosen.image_guidance,
        seed=line.settings.run.seed,
        settings=settings,
    )
    return keep_keys(line, found, "edit-floor", [images], settings, many=len(images) > MANY)


SAID = ("critique_id", "prompt_id", "image_sha256", "instructions")


def live_critiques(line: Line) -> LightRows:
    return light_rows(line, "critiques", critique_work(line).keys, SAID)


def critiqued(images: LightRows, critiques: LightRows) -> Callable[[], Iterator[edit.Critiqued]]:
    """What gives critiques prompt by prompt, beside their pictures."""

    def found() -> Iterator[edit.Critiqued]:
        shown = images.tuples("prompt_id", "sha256", "image_id", "prompt", "decoding")
        pictures = groupby(shown, itemgetter(0))
        for prompt_id, rows in groupby(critiques.tuples(*SAID), itemgetter(1)):
            theirs = next(found for of, found in pictures if of == prompt_id)
            by_hash = {sha256: others for _, sha256, *others in theirs}
            for critique_id, _, sha256, instructions in rows:
                image_id, prompt, decoding = by_hash[sha256]
                names = (critique_id, image_id, sha256, prompt_id, prompt)
                yield edit.Critiqued(*names, tuple(instructions), decoding)

    return found


def check_counter_edits(line: Line) -> None:
    """Refuse pairs of counter-edits alone where none is asked for.

    Raises:
        UsageError: `pairs.edits` is counter, `edit.counter_edits` is 0.
    """
    s = line.settings
    if s.pairs.edits == "counter" and s.edit.counter_edits == 0 and s.pairs.strategy in ("edits", "all"):
        raise UsageError(
            "pairs.edits = counter: no counter-edit is asked for, edit.counter_edits is 0",
            f"rpo edit {line.store.url} --counter-edits 1 makes one of each picture",
        )


def counter_notes(line: Line) -> list[str]:
    """Pictures that get fewer counter-edits than asked for, and critiques that would change the draw."""
    count = line.settings.edit.counter_edits
    if count == 0 or line.settings.pairs.edits == "answers":
        return []
    critiques = critique_work(line)
    there = critiques.keys & line.store.keys("critiques")
    missing = len(critiques.keys - there - line.store.rejected(critiques.name))
    drawn = len(edit_work(line).wanted[-1].packed) // WIDTH
    notes = []
    if lacking := count * len(there) - drawn:
        notes.append(f"{lacking:,} counter-edits are not made: no instruction of another prompt is left")
    if missing:
        notes.append(f"{missing:,} critiques are missing: with theirs, other counter-edits are wanted")
    return notes


# where edits to come are counted from
AT_MOST = "at most {each} a critique to come, if each finds a flaw"
SO_FAR = "{each:.3g} a critique, as so far"


def works(line: Line) -> list[Work]:
    """All that the stage makes: the edits, and beside any the pictures edited for the floor."""
    return [edits_and_floor(line)]


def unnamed(line: Line) -> str | None:
    return EDITOR if line.settings.edit.editor is None else None


def checks(line: Line) -> Sequence[Callable[[], Any]]:
    s = line.settings.edit
    return [
        partial(check_editor, line),
        partial(check_fits, line, EDITOR, lambda: models.editor(line).models[:1]),
        partial(check_counter_edits, line),
        *([partial(check_scheduler, s.scheduler)] if s.scheduler else []),
    ]


def requires(line: Line) -> None:
    """Refuse a run without live pictures, or without a critique of one.

    Raises:
        UsageError: so it is.
    """
    require_pictures(line)
    if not critique_work(line).keys & line.store.keys("critiques"):
        run = line.store.url
        raise UsageError(f"{run}: there are no critiques of these settings yet", f"rpo critique {run}")


def say_counter_edits(line: Line) -> None:
    for note in counter_notes(line):
        line.observer.note(note)


def used_models(line: Line) -> Iterator[tuple[str, ModelIdentity, str]]:
    for model in models.editor(line).models:
        yield "editor", model, line.settings.edit.dtype


def ahead(line: Line, plans: list[StagePlan], coming: dict[str, int]) -> list[StagePlan]:
    """Edits and, beside any, the pictures of the floor, which no later stage sees."""
    each, basis = edits_each(line)
    more = round(coming["critique"] * each)
    floor = floor_keys(line)
    missing = len(floor - line.store.keys("edits") - line.store.rejected("edit"))
    found = []
    for plan in plans:
        edits = replace(plan, to_make=(plan.to_make or 0) - missing)
        coming["edit"] = kept(with_more(line, SPEC, edits, more, basis))
        later = floor_size(line, coming["generate"]) - len(floor) if more or plan.wanted else 0
        found.append(with_more(line, SPEC, plan, more + later, basis))
    return found


def edits_each(line: Line) -> tuple[float, str]:
    """Edits that a critique brings, and where that is from: the funnel so far, else a stated yield."""
    critiques = critique_work(line)
    there = len(critiques.keys & line.store.keys("critiques"))
    if there:
        each = len(edit_work(line).keys) / there
        return each, SO_FAR.format(each=each)
    s, taken = line.settings.edit, line.settings.pairs.edits
    grid = s.edits_per_image * len(set(s.guidance or (0,))) * len(set(s.image_guidance or (0,)))
    chains = line.settings.critique.max_instructions if s.mode == "each" else 1
    most = (grid * chains if taken != "counter" else 0) + (s.counter_edits if taken != "answers" else 0)
    return most, AT_MOST.format(each=most)


SPEC = StageSpec(
    "edit",
    Edit,
    works,
    used_models,
    "edit",
    after="critique",
    role="editor",
    used=wants_edits,
    unnamed=unnamed,
    checks=checks,
    requires=requires,
    begin=say_counter_edits,
    planned=say_counter_edits,
    ahead=ahead,
    text=("instruction", "instructions"),
    apart=floor_keys,
    links=("edit_id", "prompt_id", "image_sha256", "critique_id", "sha256", "purpose"),
)
