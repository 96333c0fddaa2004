"""edit: a picture and instructions → edited pictures, counter-edits among them, and the editor's floor."""

import hashlib
import re
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice, product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rpo_cli.compute import is_out_of_memory
from rpo_cli.pictures import encode_png, sha256
from rpo_cli.protocols import Editor, EditRequest, Refused, Results, Task, Wanted
from rpo_cli.records import (
    HOLE,
    Edit,
    ImageData,
    Reject,
    canonical_json,
    content_key,
    row_seed,
    seen_as,
    template,
)
from rpo_cli.stages.generate import Cut, is_black, on_cores, uncut, with_cuts

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    Edited = Picture | Refused | Cut | None

Mode = Literal["joined", "each", "sequence"]
Purpose = Literal["answer", "counter", "floor"]
Guidances = tuple[float | None, float | None]  # of the text, of the picture
Chain = tuple[str, ...]  # instructions, each for the picture that the one before gave
NO_FLOOR = "no_floor"  # reason of a reject: an editor makes nothing of an empty instruction


class Critiqued(NamedTuple):
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
    chain: Chain
    attempt: int
    guidance: float | None
    image_guidance: float | None
    seed: int
    picture: "Picture | None" = None
    purpose: Purpose = "answer"


def wanted(
    critiques: Callable[[], Iterable[Critiqued]],
    *,
    mode: Mode,
    attempts: int,
    guidance: Sequence[float | None],
    image_guidance: Sequence[float | None],
    seed: int,
    settings: str,
) -> Wanted:
    """Every attempt (seed x guidance x image guidance) at every chain; nothing for an empty critique."""
    grid = list(dict.fromkeys(product(range(attempts), guidance, image_guidance)))
    keys = [template("edit", HOLE, HOLE, HOLE, *point, seed, settings) for point in grid]

    def subjects() -> Iterator[tuple[Critiqued, Chain, int]]:
        for source in critiques():
            for chain in chains(source.instructions, mode):
                for attempt in range(len(grid)):
                    yield source, chain, attempt

    def key(subject: tuple[Critiqued, Chain, int]) -> bytes:
        source, chain, attempt = subject
        return keys[attempt](seen_as(source.image_sha256, source.decoding), source.prompt, chain)

    def task(key: str, subject: tuple[Critiqued, Chain, int]) -> Task:
        source, chain, attempt = subject
        draw, text, image = grid[attempt]
        own_seed = row_seed(seed, source.image_sha256, chain, draw)
        payload = EditTask(source, chain, attempt, text, image, own_seed)
        return Task(key, source.critique_id, payload)

    return Wanted(subjects, key, task)


def chains(instructions: Sequence[str], mode: Mode) -> list[Chain]:
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
        return on_cores(partial(self._row, batch_size=batch_size), tasks, pictures)

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


POINTS = 16  # of an instruction on the ring: its share varies by a quarter
WORD = re.compile(r"\w+")
Words = frozenset[str]


def wanted_counter_edits(
    critiques: Callable[[], Iterable[Critiqued]],
    *,
    count: int,
    guidance: Sequence[float | None],
    image_guidance: Sequence[float | None],
    seed: int,
    settings: str,
) -> Wanted:
    """Up to `count` edits of every picture, each by another instruction, at the first of each guidance."""
    point = guidance[0], image_guidance[0]
    key_of = template("counter-edit", HOLE, HOLE, HOLE, *point, seed, settings)
    ring = cache(lambda: Ring.of(critiques()))

    def subjects() -> Iterator[tuple[Critiqued, Chain]]:
        for source in critiques() if count else ():
            for instruction in ring().draw(source, count, seed):
                yield source, (instruction,)

    def key(subject: tuple[Critiqued, Chain]) -> bytes:
        source, chain = subject
        return key_of(seen_as(source.image_sha256, source.decoding), source.prompt, chain)

    def task(key: str, subject: tuple[Critiqued, Chain]) -> Task:
        source, chain = subject
        own_seed = row_seed(seed, "counter-edit", source.image_sha256, source.prompt, chain)
        # its number among the draws may change with the ring, so it is no part of the row
        return Task(
            key, source.critique_id, EditTask(source, chain, 0, *point, own_seed, purpose="counter")
        )

    return Wanted(subjects, key, task)


@dataclass(frozen=True)
class Ring:
    """The distinct instructions of all critiques, and what the critiques of each prompt ask for."""

    places: tuple[int, ...]
    texts: tuple[str, ...]
    own: dict[str, set[Words]]

    @classmethod
    def of(cls, critiques: Iterable[Critiqued]) -> "Ring":
        own: dict[str, set[Words]] = defaultdict(set)
        distinct: set[str] = set()
        for critique in critiques:
            own[critique.prompt_id] |= set(map(words, critique.instructions))
            distinct |= set(critique.instructions)
        points = sorted((_place(text, n), text) for text in distinct for n in range(POINTS))
        return cls(tuple(place for place, _ in points), tuple(text for _, text in points), dict(own))

    def draw(self, source: Critiqued, count: int, seed: int) -> list[str]:
        """Up to `count` instructions, none near to one that the prompt's own critiques gave."""
        start = bisect(self.places, _place(seed, source.image_sha256, source.prompt))
        return list(islice(self._others(start, source.prompt_id), count))

    def _others(self, start: int, prompt_id: str) -> Iterator[str]:
        taken = list(self.own.get(prompt_id, ()))
        size = len(self.texts)
        for text in (self.texts[(start + step) % size] for step in range(size)):
            mine = words(text)
            if not any(mine <= other or other <= mine for other in taken):
                taken.append(mine)
                yield text


def words(text: str) -> Words:
    """What two instructions are compared by: case, order and punctuation do not count."""
    return frozenset(WORD.findall(text.casefold())) or frozenset((text,))


def _place(*what: object) -> int:
    """A point of the ring, in [0, 2**64)."""
    return int.from_bytes(hashlib.blake2b(canonical_json(what).encode(), digest_size=8).digest(), "big")


NOTHING = ""  # the instruction
FEW = 1000  # pictures that are compared at a time
SPREAD = 2.0  # how far beyond the lower quartile a change is still the editor's own noise


def wanted_floor(
    pictures: Callable[[], Iterable[Critiqued]],
    *,
    count: int,
    guidance: Sequence[float | None],
    image_guidance: Sequence[float | None],
    seed: int,
    settings: str,
) -> Wanted:
    """Up to `count` pictures, the same whatever their order, once at every pair of guidances."""
    grid = list(dict.fromkeys(product(guidance, image_guidance)))

    def words(source: Critiqued) -> tuple[str, str, str]:
        return "edit-floor", seen_as(source.image_sha256, source.decoding), source.prompt

    def key(subject: tuple[Critiqued, Guidances]) -> bytes:
        source, point = subject
        return bytes.fromhex(content_key(*words(source), *point, seed, settings))

    def task(key: str, subject: tuple[Critiqued, Guidances]) -> Task:
        source, point = subject
        payload = EditTask(source, (NOTHING,), 0, *point, row_seed(seed, *words(source)), purpose="floor")
        return Task(key, source.image_id, payload)

    taken = cache(lambda: chosen(pictures(), count))
    return Wanted(lambda: product(taken(), grid), key, task)


def chosen(pictures: Iterable[Critiqued], count: int) -> list[Critiqued]:
    """Those of the lowest hashes, each picture once; another picture of the run displaces one at most."""
    hashed = template("edit-floor", HOLE)
    lowest: dict[str, tuple[bytes, Critiqued]] = {}  # by picture; a few more than are taken
    for picture in pictures:
        known = lowest.get(picture.image_sha256)
        if known is None:
            lowest[picture.image_sha256] = hashed(picture.image_sha256), picture
        elif (picture.prompt_id, picture.image_id) < (known[1].prompt_id, known[1].image_id):
            lowest[picture.image_sha256] = known[0], picture
        if len(lowest) > 2 * count + FEW:
            lowest = _least(lowest, count)
    return [picture for _, picture in _least(lowest, count).values()]


def _least(found: dict[str, tuple[bytes, Critiqued]], count: int) -> dict[str, tuple[bytes, Critiqued]]:
    return dict(sorted(found.items(), key=lambda item: item[1][0])[:count])


def floor_of(changes: Sequence[float]) -> float:
    """The change up to which an edit says nothing, from those under an empty instruction, at least one.

    The largest within `SPREAD` times the lower quartile: a single picture that fell apart has no say. Where
    more than a quarter lie beyond that, the editor invents edits when it is asked for none (InstructPix2Pix
    learns to, from instructions that are left out), and the lower quartile is what is left of its noise.

    Args:
        changes: mean absolute pixel differences in [0, 1].
    """
    ordered = sorted(changes)
    quartile = ordered[(len(ordered) - 1) // 4]
    near = [change for change in ordered if change <= SPREAD * quartile]
    return quartile if 4 * (len(ordered) - len(near)) > len(ordered) else near[-1]
