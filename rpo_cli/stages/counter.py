"""edit, counter-edits: a picture and an instruction that another prompt's critique gave → a worse picture.

Nothing here asks a model: every critic's instructions will do, and the rewards say what came of the edit.

The instructions stand on a ring (consistent hashing, Karger et al. 1997): a draw is the next one after a
point that hangs on the run's seed, the picture and its prompt. So it depends on no order, and a new
instruction takes over its share of the draws, one in so many as there are, and changes no other.
"""

import hashlib
import re
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from rpo_cli.protocols import Task
from rpo_cli.records import canonical_json, content_key, row_seed, seen_as
from rpo_cli.stages.edit import Critiqued, EditTask

POINTS = 16  # of an instruction on the ring: its share varies by a quarter
WORD = re.compile(r"\w+")
Words = frozenset[str]


def wanted(
    critiques: Sequence[Critiqued],
    *,
    count: int,
    guidance: Sequence[float | None],
    image_guidance: Sequence[float | None],
    seed: int,
    settings: str,
) -> Iterator[Task]:
    """Up to `count` edits of every picture, each by another instruction, at the first of each guidance."""
    if count == 0:
        return
    ring = Ring.of(critiques)
    for source in critiques:
        for instruction in ring.draw(source, count, seed):
            made = (source.image_sha256, source.prompt, (instruction,))
            text, image = guidance[0], image_guidance[0]
            shown = seen_as(source.image_sha256, source.decoding)
            key = content_key("counter-edit", shown, *made[1:], text, image, seed, settings)
            own_seed = row_seed(seed, "counter-edit", *made)
            # its number among the draws may change with the ring, so it is no part of the row
            task = EditTask(source, (instruction,), 0, text, image, own_seed, purpose="counter")
            yield Task(key, source.critique_id, task)


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
