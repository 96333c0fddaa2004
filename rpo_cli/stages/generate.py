"""generate: a prompt and a seed → a picture."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rpo_cli.pictures import encode_png, sha256
from rpo_cli.protocols import Generator, Results, Task
from rpo_cli.records import Image, ImageData, Reject, content_key, row_seed
from rpo_cli.stages.cuts import Cut, uncut, with_cuts

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


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


def wanted(prompts: Iterable[tuple[str, str]], *, count: int, seed: int, settings: str) -> Iterator[Task]:
    """`count` tasks for each (prompt_id, prompt).

    The start noise depends on the run's seed, the prompt and the index, not on the model: two models
    asked for the same prompt begin from the same noise, so they can be compared pair by pair.
    """
    for prompt_id, prompt in prompts:
        for index in range(count):
            key = content_key("image", prompt, index, seed, settings)
            yield Task(key, prompt_id, ImageTask(prompt_id, prompt, index, row_seed(seed, prompt, index)))


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
        return [self._row(task, picture, batch_size) for task, picture in zip(tasks, pictures, strict=True)]

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


def is_black(picture: "Picture | None") -> bool:
    """True for None and for a picture whose every channel is 0 everywhere."""
    if picture is None:
        return True
    return picture.convert("RGB").getbbox() is None
