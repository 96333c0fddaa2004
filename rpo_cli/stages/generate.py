"""generate: a prompt and a seed → a picture, and what of its prompt no text encoder reads."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rpo_cli.pictures import encode_png, sha256
from rpo_cli.protocols import Generator, Results, Task, Wanted
from rpo_cli.records import HOLE, Image, ImageData, Reject, row_seed, template

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SHOWN = 3  # texts that are named
SHOWN_LETTERS = 40


@dataclass(frozen=True)
class Cut:
    """What a backend made of a text whose end it did not read: tokenizer → tokens beyond, each > 0."""

    output: Any
    over: Mapping[str, int]


def with_cuts(backend: Any, texts: Sequence[Sequence[str]], outputs: Sequence[Any]) -> list[Any]:
    """The outputs, wrapped where one of an output's texts was longer than a text encoder reads.

    Of several texts (a chain of edits) the most of each tokenizer counts. A backend that knows its limits
    has `tokens_over`, see `protocols.Generator`.
    """
    if not hasattr(backend, "tokens_over"):
        return list(outputs)
    told = iter(backend.tokens_over([text for own in texts for text in own]))
    overs: list[dict[str, int]] = []
    for own in texts:
        most: dict[str, int] = {}
        for found in (next(told) for _ in own):
            most |= {name: max(count, most.get(name, 0)) for name, count in found.items()}
        overs.append(most)
    return [Cut(output, over) if over else output for output, over in zip(outputs, overs, strict=True)]


def uncut(output: Any) -> "tuple[Any, dict[str, float] | None]":
    """The output as it was made, and tokenizer → tokens beyond; None: all was read, or it is not known."""
    return (output.output, {**output.over}) if isinstance(output, Cut) else (output, None)


def cut_note(stage: str, what: str, cut: Mapping[str, Mapping[str, float]], of: int) -> str | None:
    """How many texts of a stage are longer than a text encoder reads, and the first of them; None of none.

    Args:
        what: the word for several of them. cut: text → tokens beyond, by tokenizer. of: texts in all.
    """
    if not cut:
        return None
    names = sorted({name for over in cut.values() for name in over})
    each = "; ".join(
        f"{name}: {sum(name in over for over in cut.values()):,}, by up to "
        f"{max(over.get(name, 0) for over in cut.values()):,.0f} tokens"
        for name in names
    )
    first = ", ".join(repr(text[:SHOWN_LETTERS]) for text in sorted(cut)[:SHOWN])
    more = ", ..." if len(cut) > SHOWN else ""
    return (
        f"{stage}: {len(cut):,} of {of:,} {what} are longer than a text encoder reads ({each}); "
        f"critic and rewards read them whole: {first}{more}"
    )


@dataclass(frozen=True)
class ImageTask:
    """A picture to make; of a loser also the winner, which is re-noised when a strength is given."""

    prompt_id: str
    prompt: str
    index: int
    seed: int
    against: str | None = None
    strength: float | None = None
    picture: "Picture | None" = None
    decoding: str | None = None  # of that winner


def wanted(
    prompts: Callable[[], Iterable[tuple[str, str]]], *, count: int, seed: int, settings: str
) -> Wanted:
    """`count` pictures of each (prompt_id, prompt).

    The start noise depends on the run's seed, the prompt and the index, not on the model: two models
    asked for the same prompt begin from the same noise, so they can be compared pair by pair.
    """
    key = template("image", HOLE, HOLE, seed, settings)

    def task(key: str, subject: tuple[str, str, int]) -> Task:
        return Task(key, subject[0], ImageTask(*subject, row_seed(seed, *subject[1:])))

    return Wanted(
        lambda: ((*prompt, index) for prompt in prompts() for index in range(count)),
        lambda subject: key(*subject[1:]),
        task,
    )


def bucket(task: Task) -> None:
    """All pictures of a run have one size."""


def step(tasks: Sequence[Task], generator: Generator, batch_size: int) -> "list[Picture | Cut | None]":
    """Generate one batch, padded to `batch_size` with copies of its last task."""
    padded = [*tasks, *[tasks[-1]] * (batch_size - len(tasks))]
    pictures = generator.generate(
        [task.payload.prompt for task in padded], [task.payload.seed for task in padded]
    )
    return with_cuts(generator, [[task.payload.prompt] for task in tasks], pictures[: len(tasks)])


@dataclass(frozen=True)
class Finish:
    """Pictures → rows; a picture that a safety checker blacked out, or that is black, is a reject."""

    settings: str
    environment: str

    def __call__(
        self, tasks: Sequence[Task], pictures: "Sequence[Picture | Cut | None]", batch_size: int
    ) -> Results:
        return on_cores(partial(self._row, batch_size=batch_size), tasks, pictures)

    def _row(self, task: Task, output: "Picture | Cut | None", batch_size: int) -> Image | Reject:
        want: ImageTask = task.payload
        picture, over = uncut(output)
        if is_black(picture):
            return Reject(
                key_of=task.key,
                stage="generate",
                input_id=want.prompt_id,
                reason="black_image",
                detail="black: a safety checker, or numbers that overflowed in half precision",
                settings=self.settings,
            )
        assert picture is not None
        data = encode_png(picture)
        return Image(
            image_id=task.key,
            prompt_id=want.prompt_id,
            prompt=want.prompt,
            index=want.index,
            seed=want.seed,
            sha256=sha256(data),
            width=picture.width,
            height=picture.height,
            image=ImageData(bytes=data),
            batch_size=batch_size,
            settings=self.settings,
            environment=self.environment,
            against=want.against,
            truncated=over,
        )


CORES = 8  # that encode pictures at once, at most: one makes some three of a megapixel a second


def on_cores(row: Callable[[Task, Any], Any], tasks: Sequence[Task], outputs: Sequence[Any]) -> Results:
    """`row` of each task and its output, in their order: a PNG is made outside of Python's lock."""
    with ThreadPoolExecutor(min(CORES, os.cpu_count() or 1)) as pool:
        return list(pool.map(row, tasks, outputs))


def is_black(picture: "Picture | None") -> bool:
    """True for None and for a picture whose every channel is 0 everywhere."""
    if picture is None:
        return True
    return picture.convert("RGB").getbbox() is None
