"""critique: a picture and its prompt → a free-text critique, its flaws, and short edit instructions.

Two turns as in RPO (arXiv:2503.11720): first what the picture shows and what differs from the prompt,
then flaws and instructions as JSON; or both at once (`single_turn`). The first attempt is greedy, in
batches; a bad reply is asked for again alone, sampled with the row's seed, then rejected with its text.
Where people have said what is wrong with a picture (imported feedback), their words are the first turn.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rpo_cli.config import CritiqueSettings
from rpo_cli.protocols import Conversation, Critic, Message, Reply, Results, Task, Wanted
from rpo_cli.records import HOLE, Critique, Reject, row_seed, seed_template, seen_as, template
from rpo_cli.stages.cleaning import OTHER_FIELD, cleaned
from rpo_cli.stages.refusals import check_text
from rpo_cli.stages.replies import PLAIN, BadReply, Parsed, Rubric, parse, schema
from rpo_cli.templates import Templates

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

DETAIL = 2000  # characters of a bad reply that are kept


@dataclass(frozen=True)
class CritiqueTask:
    image_id: str
    image_sha256: str
    prompt_id: str
    prompt: str
    seed: int
    picture: "Picture | None" = None
    said: str | None = None  # people's words, which stand for the first turn


Subject = tuple[str, str, str, str, str | None]  # image_id, sha256, prompt_id, prompt, decoding


def wanted(
    images: Callable[[], Iterable[Subject]],
    *,
    seed: int,
    settings: str,
    said: Mapping[tuple[str, str], str] | None = None,
) -> Wanted:
    """A critique of each picture and prompt.

    Args:
        said: (sha256, prompt_id) → what people said of the picture.
    """
    people = said or {}
    seed_of = seed_template(seed, "critique", HOLE, HOLE)
    plain = template("critique", HOLE, HOLE, HOLE, settings)
    answered = template("critique", HOLE, HOLE, HOLE, settings, HOLE)

    def key(subject: Subject) -> bytes:
        _, sha256, prompt_id, prompt, decoding = subject
        made = seen_as(sha256, decoding), prompt, seed_of(sha256, prompt)
        words = people.get((sha256, prompt_id)) if people else None
        return plain(*made) if words is None else answered(*made, words)

    def task(key: str, subject: Subject) -> Task:
        image_id, sha256, prompt_id, prompt, _ = subject
        words, own = people.get((sha256, prompt_id)), seed_of(sha256, prompt)
        return Task(key, image_id, CritiqueTask(*subject[:4], own, said=words))

    return Wanted(images, key, task)


def bucket(task: Task) -> Any:
    """Pictures of one batch have one size, and people have spoken of all of them or of none."""
    return task.payload.picture.size, task.payload.said is not None


@dataclass(frozen=True)
class _Said:
    """What a critic said to one task: the free text (none in a single turn) and the raw JSON.

    `raw_text` is the free text as it came, where it was cleaned; `notes` are keys of `replies.SAID`.
    """

    text: str
    reply: str = ""
    raw_text: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One batch of tasks → one Critique or Reject each; see `protocols.Stage.step`.

    `quotes`: whether replies may hold quotation marks; the embedded critic's may not.
    """

    settings: CritiqueSettings
    templates: Templates
    settings_json: str
    environment_json: str
    quotes: bool = True

    @cached_property
    def rubric(self) -> Rubric:
        """What the style asks for beside flaws and instructions."""
        found = self.templates.rubric
        return PLAIN if found is None else Rubric.read(found.name, found.text)

    def __call__(self, tasks: Sequence[Task], critic: Critic, batch_size: int) -> Results:
        padded = [*tasks, *[tasks[-1]] * (batch_size - len(tasks))]
        first = self._ask([task.payload for task in padded], critic, None)
        return [
            self._row(task, critic, said, batch_size)
            for task, said in zip(tasks, first[: len(tasks)], strict=True)
        ]

    def _row(
        self, task: Task, critic: Critic, said: _Said | BadReply, batch_size: int
    ) -> Critique | Reject:
        attempt, seed = 0, task.payload.seed
        parsed = self._parsed(said, task.payload.prompt)
        while isinstance(parsed, BadReply) and attempt + 1 < self.settings.attempts:
            attempt, batch_size = attempt + 1, 1
            seed = row_seed(task.payload.seed, attempt)
            (said,) = self._ask([task.payload], critic, [seed])
            parsed = self._parsed(said, task.payload.prompt)
        if isinstance(parsed, BadReply):
            return self._reject(task, parsed)
        return self._critique(task, parsed, attempt, seed, batch_size)

    def _ask(
        self, wants: Sequence[CritiqueTask], critic: Critic, seeds: Sequence[int] | None
    ) -> list[_Said | BadReply]:
        """All turns of one attempt; the batch keeps its shape in every turn."""
        if self.settings.single_turn:
            opened = [(self._opening(want, self.templates.single),) for want in wants]
            replies = self._reply(critic, opened, seeds, structured=True)
            return [_answered(_Said(""), reply) for reply in replies]
        opened = [(self._opening(want, self.templates.critique),) for want in wants]
        heard = self._heard(wants, opened, critic, seeds)
        good = {row: said for row, said in enumerate(heard) if isinstance(said, _Said)}
        if not good:
            return heard
        rows = list(good)
        shape = [*rows, *[rows[-1]] * (len(wants) - len(rows))]  # padded, so no row feels its neighbours
        talks = [(*opened[row], *self._second_turn(wants[row], good[row].text)) for row in shape]
        again = None if seeds is None else [seeds[row] for row in shape]
        for row, reply in zip(rows, self._reply(critic, talks, again, structured=True), strict=False):
            heard[row] = _answered(good[row], reply)
        return heard

    def _heard(
        self, wants: Sequence[CritiqueTask], opened: Any, critic: Critic, seeds: Sequence[int] | None
    ) -> list[_Said | BadReply]:
        """The first turn: the critic's, or people's where they have spoken (a batch is of one kind)."""
        people = [want.said for want in wants if want.said is not None]
        if len(people) == len(wants):
            return [_Said(words) for words in people]
        return [_text_of(reply) for reply in self._reply(critic, opened, seeds, structured=False)]

    def _opening(self, want: CritiqueTask, template: Any) -> Message:
        return Message("user", template.fill(**self._values(want)), want.picture)

    def _second_turn(self, want: CritiqueTask, text: str) -> Conversation:
        asked = self.templates.instructions.fill(**self._values(want))
        return (Message("assistant", text), Message("user", asked))

    def _values(self, want: CritiqueTask) -> dict[str, Any]:
        """Everything that any critique template may use."""
        limits = {"max_instructions": self.settings.max_instructions, "max_words": self.settings.max_words}
        return {"prompt": want.prompt, **limits}

    def _reply(
        self, critic: Critic, talks: Sequence[Conversation], seeds: Any, *, structured: bool
    ) -> list[Reply]:
        s = self.settings
        held = None
        if structured:
            held = schema(s.max_instructions, single=s.single_turn, rubric=self.rubric, quotes=self.quotes)
        return critic.reply(talks, schema=held, seeds=seeds, max_tokens=s.max_tokens)

    def _parsed(self, said: _Said | BadReply, prompt: str) -> Parsed | BadReply:
        if isinstance(said, BadReply):
            return said
        s = self.settings
        parsed = parse(
            said.reply,
            said.text,
            single=s.single_turn,
            max_instructions=s.max_instructions,
            max_words=s.max_words,
            rubric=self.rubric,
            prompt=prompt,
        )
        parsed = replace(parsed, notes=(*said.notes, *parsed.notes))
        return parsed if isinstance(parsed, BadReply) else replace(parsed, raw_text=said.raw_text)

    def _critique(self, task: Task, parsed: Parsed, attempt: int, seed: int, batch_size: int) -> Critique:
        want: CritiqueTask = task.payload
        return Critique(
            critique_id=task.key,
            image_id=want.image_id,
            image_sha256=want.image_sha256,
            prompt_id=want.prompt_id,
            prompt=want.prompt,
            text=parsed.text,
            flaws=parsed.flaws,
            instructions=parsed.instructions,
            scores=parsed.scores,
            reply=parsed.reply,
            cleaned=parsed.notes or None,
            raw_text=parsed.raw_text,
            attempt=attempt,
            seed=seed,
            batch_size=batch_size,
            settings=self.settings_json,
            environment=self.environment_json,
        )

    def _reject(self, task: Task, bad: BadReply) -> Reject:
        return Reject(
            key_of=task.key,
            stage="critique",
            input_id=task.input_id,
            reason="bad_reply",
            detail=f"{bad.why}: {bad.raw}"[:DETAIL],
            cleaned=bad.notes or None,
            settings=self.settings_json,
        )


make_step = Step


def _whole(reply: Reply) -> bool:
    return reply.finish == "stop"


def _cut(reply: Reply) -> BadReply:
    return BadReply("no reply" if reply.finish == "error" else "cut off by max_tokens", reply.text)


def _answered(said: _Said, reply: Reply) -> _Said | BadReply:
    """What was said so far, with the JSON of the last turn."""
    if not _whole(reply):
        return _cut(reply)
    return replace(said, reply=reply.text, notes=(*said.notes, *_field(reply)))


def _text_of(reply: Reply) -> _Said | BadReply:
    """The free text of turn 1, or why it cannot be used."""
    if not _whole(reply):
        return _cut(reply)
    clean = cleaned(reply.text)
    why = check_text(clean.text)
    notes = (*clean.notes, *_field(reply))
    if why:
        beside = f" beside {' and '.join(clean.notes)}" if why == "empty" and clean.notes else ""
        return BadReply(f"{why}{beside}", reply.text, notes)
    return _Said(clean.text, raw_text=reply.text if clean.text != reply.text.strip() else None, notes=notes)


def _field(reply: Reply) -> tuple[str, ...]:
    return (OTHER_FIELD,) if reply.field else ()
