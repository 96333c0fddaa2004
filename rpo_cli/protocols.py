"""The roles of the line, on one page.

A backend is cheap to construct and picklable: its constructor only stores settings. Weights load in
`setup()`, on the worker that will use them. Every call takes a batch whose shape the caller has fixed
(the last batch is padded), and a row's result depends only on the row and the batch shape.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from rpo_cli.records import Reject, Row


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; its pictures stand before the text: `image`, then `more`."""

    role: Literal["system", "user", "assistant"]
    text: str
    image: "Picture | None" = None
    more: "tuple[Picture, ...]" = ()

    @property
    def pictures(self) -> "tuple[Picture, ...]":
        return self.more if self.image is None else (self.image, *self.more)


Conversation = tuple[Message, ...]


@dataclass(frozen=True)
class Reply:
    """What a critic said. `finish` is "stop" (it ended by itself), "length" (cut off) or "error": a server
    answered without a reply, and `text` says with what. `field` is where a server's words stood, when not
    in the content of its answer."""

    text: str
    finish: Literal["stop", "length", "error"]
    field: str = ""


@dataclass(frozen=True)
class Weights:
    """What a backend loads, and where: all that one is built from beside the options of its own.

    Attributes:
        model: a folder, a file, a hub id, or the name that a server knows.
        revision: commit of the hub; None: its newest, or no matter.
        dtype: "float32", "float16" or "bfloat16".
    """

    model: str
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "float32"


class Backend(Protocol):
    """Constructed with `weights` and with options by keyword. Three more things that one may have, and a
    server's has:

    `lanes`, an int > 0: rows do not depend on batches, and that many threads may call at a time, each
    with one row; an RpoError then means that this row is still missing. `notes` after `setup`: sentences
    for the user. `close()`: called at the end, whatever happened.
    """

    def setup(self) -> None:
        """Load weights. Called once on the worker, before the first batch."""


class Generator(Backend, Protocol):
    """One more thing that a generator, renoiser or editor may have:

    `tokens_over(texts)`, of one whose text encoders read only so many tokens: for each text, by tokenizer,
    how many are beyond; {} where all are read.
    """

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> "list[Picture | None]":
        """One RGB picture per prompt; None where a safety checker blacked it out."""


class Renoiser(Backend, Protocol):
    def renoise(
        self,
        pictures: "Sequence[Picture]",
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        strength: float,
    ) -> "list[Picture | None]":
        """Each picture with noise of `strength` in (0, 1] put on and taken away again, at its own size."""


class Critic(Backend, Protocol):
    def reply(
        self,
        conversations: Sequence[Conversation],
        *,
        schema: dict[str, Any] | None,
        seeds: Sequence[int] | None,
        max_tokens: int,
    ) -> list[Reply]:
        """One reply per conversation. `schema` constrains it to JSON; `seeds` None means greedy."""


@dataclass(frozen=True)
class EditRequest:
    image: "Picture"
    instruction: str
    seed: int


@dataclass(frozen=True)
class Refused:
    """What a server said instead of a picture; it would say so again."""

    detail: str


class Editor(Backend, Protocol):
    def edit(
        self, requests: Sequence[EditRequest], *, guidance: float | None, image_guidance: float | None
    ) -> "Sequence[Picture | Refused | None]":
        """One picture per request, of its image's size; all images of a call have one size.

        None where a safety checker blacked it out. A guidance that the model takes none of is None.
        """


class Reward(Backend, Protocol):
    """Three more things that one may have:

    `cut(prompts)`, of one that reads only so many tokens: which prompts were longer.
    `spread(prompts, images)`: (score, its standard deviation) of each row, of one that knows it.
    `environment`: JSON of the libraries that compute its scores, of one that is a process of its own.
    """

    def score(self, prompts: Sequence[str], images: "Sequence[Picture]") -> list[float]:
        """One finite number per (prompt, image); higher is better."""


@dataclass(frozen=True)
class Task:
    """A row that is wanted: its key, the row it is made from, and what its stage needs to make it."""

    key: str
    input_id: str
    payload: Any


@dataclass(frozen=True)
class Wanted:
    """Rows that a stage wants, as what each is made from: a task exists only while its row is made.

    Attributes:
        subjects: gives the same anew at every call, in the same order, as light as can be.
        key: subject → the row's key, 16 bytes (`records.template`). Of several subjects with one key the
            first stands for it.
        task: key, subject → the task, without pictures.
        kept: what computes the keys → them, as they were computed before or anew.
    """

    subjects: Callable[[], Iterable[Any]]
    key: Callable[[Any], bytes]
    task: Callable[[str, Any], Task]
    kept: Callable[[Callable[[], bytes]], bytes] = lambda compute: compute()

    @cached_property
    def packed(self) -> bytes:
        """The key of every subject, one after the other."""
        return self.kept(self._packed)

    def _packed(self) -> bytes:
        keys, found = map(self.key, self.subjects()), bytearray()
        while some := b"".join(islice(keys, 10_000)):
            found += some
        return bytes(found)

    def __iter__(self) -> Iterator[Task]:
        """Every task, each key once; for few rows."""
        first: dict[bytes, Any] = {}
        for subject in self.subjects():
            first.setdefault(self.key(subject), subject)
        yield from (self.task(key.hex(), subject) for key, subject in first.items())


Results: TypeAlias = "list[Row | Reject]"


def _one(task: Task) -> None:
    """The bucket of tasks that may all share a batch."""


def _as_is(tasks: Sequence[Task], outputs: list[Any], batch_size: int) -> Results:
    return outputs


@dataclass(frozen=True)
class Stage:
    """A step of the line as data: how to build its backend and how to turn tasks into rows. It pickles.

    Attributes:
        bucket: groups tasks that may share a batch (equal sizes, equal guidance).
        step: one batch of one bucket → one output per task, in order; runs the model. Its third
            argument is the batch shape: pad to it.
        finish: outputs → rows or rejects (encoding); runs beside the next `step` on another thread.
    """

    name: str
    table: str
    batch_size: int
    build: Callable[[], Any]
    step: Callable[[Sequence[Task], Any, int], list[Any]]
    finish: Callable[[Sequence[Task], list[Any], int], Results] = _as_is
    bucket: Callable[[Task], Any] = _one


MakeStage = Callable[[str, str], Stage]  # (device, environment JSON) → the stage as it is on that device


class Engine(Protocol):
    """Constructed with `note`, which takes a sentence for the user, and the settings of `[run]`."""

    workers: int
    """How many models were at work at a time in the last `run`; 1 before it."""

    def run(self, make: MakeStage, tasks: Iterable[Task], sink: Callable[[Results], None]) -> None:
        """Give every finished batch to `sink`, in any order. Without a task no backend loads."""


class Observer(Protocol):
    """Told about progress; the door draws it."""

    def start(self, stage: str, total: int, present: int) -> None: ...

    def advance(self, rows: int, rejects: int) -> None: ...

    def finish(self) -> None: ...

    def note(self, text: str) -> None:
        """Something a user should read: a halved batch, a warning."""


class Silent:
    """An observer that is told and says nothing."""

    def start(self, stage: str, total: int, present: int) -> None: ...

    def advance(self, rows: int, rejects: int) -> None: ...

    def finish(self) -> None: ...

    def note(self, text: str) -> None: ...
