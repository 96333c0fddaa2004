"""edit: a picture and its critique's instructions → edited pictures."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from rpo_cli.compute import is_out_of_memory
from rpo_cli.pictures import encode_png, sha256
from rpo_cli.protocols import Editor, EditRequest, Refused, Results, Task
from rpo_cli.records import Edit, ImageData, Reject, content_key, row_seed, seen_as
from rpo_cli.stages.cuts import Cut, uncut, with_cuts
from rpo_cli.stages.generate import is_black

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    Edited = Picture | Refused | Cut | None

Mode = Literal["joined", "each", "sequence"]
Purpose = Literal["answer", "counter", "floor"]
NO_FLOOR = "no_floor"  # reason of a reject: an editor makes nothing of an empty instruction


@dataclass(frozen=True)
class Critiqued:
    """What the edit stage needs of a critique."""

    critique_id: str
    image_id: str
    image_sha256: str
    prompt_id: str
    prompt: str
    instructions: tuple[str, ...]
    decoding: str | None = None  # of the picture


@dataclass(frozen=True)
class EditTask:
    """One edit: `chain` is applied in order, each link to the picture the one before gave."""

    source: Critiqued
    chain: tuple[str, ...]
    attempt: int
    guidance: float | None
    image_guidance: float | None
    seed: int
    picture: "Picture | None" = None
    purpose: Purpose = "answer"


def wanted(
    critiques: Iterable[Critiqued],
    *,
    mode: Mode,
    attempts: int,
    guidance: Sequence[float | None],
    image_guidance: Sequence[float | None],
    seed: int,
    settings: str,
) -> Iterator[Task]:
    """Every attempt (seed x guidance x image guidance) at every chain; nothing for an empty critique."""
    grid = list(dict.fromkeys(product(range(attempts), guidance, image_guidance)))
    for source in critiques:
        for chain in chains(source.instructions, mode):
            for attempt, (draw, text, image) in enumerate(grid):
                shown = seen_as(source.image_sha256, source.decoding)
                key = content_key("edit", shown, source.prompt, chain, draw, text, image, seed, settings)
                own_seed = row_seed(seed, source.image_sha256, chain, draw)
                task = EditTask(source, chain, attempt, text, image, own_seed)
                yield Task(key, source.critique_id, task)


def chains(instructions: Sequence[str], mode: Mode) -> list[tuple[str, ...]]:
    """joined: one text of all; each: one edit per instruction; sequence: all, one after the other."""
    if not instructions:
        return []
    if mode == "joined":
        return [("; ".join(instructions),)]
    if mode == "each":
        return [(instruction,) for instruction in instructions]
    return [tuple(instructions)]


def bucket(task: Task) -> Any:
    """Edits of one batch share size, guidance and length of chain; those of the floor go apart."""
    want: EditTask = task.payload
    assert want.picture is not None
    return want.picture.size, want.guidance, want.image_guidance, len(want.chain), want.purpose == "floor"


def step(tasks: Sequence[Task], editor: Editor, batch_size: int) -> "list[Edited]":
    """Edit one batch, padded to `batch_size`; a link that is blacked out or refused ends its chain.

    What an editor raises of an empty instruction is its refusal of it, unless memory ran out.
    """
    try:
        return _edited(tasks, editor, batch_size)
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        if tasks[0].payload.purpose != "floor" or is_out_of_memory(error):
            raise
        return [Refused(f"{type(error).__name__}: {error}")] * len(tasks)


def _edited(tasks: Sequence[Task], editor: Editor, batch_size: int) -> "list[Edited]":
    wants: list[EditTask] = [task.payload for task in tasks]
    padded = [*wants, *[wants[-1]] * (batch_size - len(wants))]
    first = padded[0]
    originals = [want.picture for want in padded]
    pictures: list[Picture | Refused | None] = list(originals)
    for link in range(len(first.chain)):
        requests = [
            EditRequest(_drawn(picture) or original, want.chain[link], row_seed(want.seed, link))
            for want, picture, original in zip(padded, pictures, originals, strict=True)
            if original is not None
        ]
        edited = editor.edit(requests, guidance=first.guidance, image_guidance=first.image_guidance)
        pictures = [
            new if _drawn(old) is not None else old for old, new in zip(pictures, edited, strict=True)
        ]
    return with_cuts(editor, [want.chain for want in wants], pictures[: len(tasks)])


def _drawn(output: "Picture | Refused | None") -> "Picture | None":
    return None if isinstance(output, Refused) else output


@dataclass(frozen=True)
class Finish:
    """Edited pictures → rows; a black one is a reject."""

    settings: str
    environment: str

    def __call__(self, tasks: Sequence[Task], pictures: "Sequence[Edited]", batch_size: int) -> Results:
        return [self._row(task, picture, batch_size) for task, picture in zip(tasks, pictures, strict=True)]

    def _row(self, task: Task, edited: "Edited", batch_size: int) -> Edit | Reject:
        want: EditTask = task.payload
        output, over = uncut(edited)
        picture = _drawn(output)
        if is_black(picture):
            return self._reject(task, output)
        assert picture is not None
        data = encode_png(picture)
        return Edit(
            edit_id=task.key,
            image_id=want.source.image_id,
            image_sha256=want.source.image_sha256,
            critique_id=want.source.critique_id,
            prompt_id=want.source.prompt_id,
            prompt=want.source.prompt,
            instruction="; ".join(want.chain),
            attempt=want.attempt,
            guidance=want.guidance,
            image_guidance=want.image_guidance,
            seed=want.seed,
            sha256=sha256(data),
            width=picture.width,
            height=picture.height,
            image=ImageData(bytes=data),
            batch_size=batch_size,
            settings=self.settings,
            environment=self.environment,
            purpose=want.purpose,
            truncated=over,
        )

    def _reject(self, task: Task, output: "Picture | Refused | None") -> Reject:
        want: EditTask = task.payload
        reason = "refused" if isinstance(output, Refused) else "black_image"
        said = output.detail if isinstance(output, Refused) else "; ".join(want.chain)
        if want.purpose == "floor":
            reason, said = NO_FLOOR, said or reason
        return Reject(
            key_of=task.key,
            stage="edit",
            input_id=task.input_id,
            reason=reason,
            detail=said[:2000],
            settings=self.settings,
        )
