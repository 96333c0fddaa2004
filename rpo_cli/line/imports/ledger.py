"""The ledger of imports: which rows each source claims now, so which imported rows take part in a run.

A row of a table is written once and never changed, whatever sources it stands in. What a source says is
kept beside it, a chunk of the source's rows at a time, as rows of `claims`: of two claims of one chunk the
one of the higher generation counts, so a chunk is replaced in one step, and deleting what it replaces is
tidying. A claim is written after the rows that it names.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from rpo_cli.line.imports.sources import PLACE, TABLE, rank_of, scanned
from rpo_cli.records import Claim, content_key
from rpo_cli.schema import from_table, to_table
from rpo_cli.store import Store

NAMED = ("prompts", "images", "critiques", "rejects", "preferences")  # tables whose keys a claim names


@dataclass
class Ledger:
    """What one source claims, chunk by chunk. Hold the import's lock while you write to it."""

    store: Store
    source: str
    _current: dict[int, tuple[tuple[int, int, str], pa.Table]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, source: str) -> "Ledger":
        """As it stands; claims are kept packed until they are asked for."""
        ledger = cls(store, source)
        for data in scanned(store, None, source):
            for number, place in enumerate(data.select(PLACE).to_pylist()):
                ledger._meet(place, data.slice(number, 1))
        return ledger

    def _meet(self, place: dict[str, object], packed: pa.Table) -> None:
        start, rank = place["start"], rank_of(place)
        assert isinstance(start, int)
        if start not in self._current or self._current[start][0] < rank:
            self._current[start] = (rank, packed)

    def __iter__(self) -> Iterator[Claim]:
        """The current claims, in order of their rows."""
        for start in sorted(self._current):
            claim = self.at(start)
            assert claim is not None
            yield claim

    def starts(self) -> list[int]:
        """Where the current claims start, in order."""
        return sorted(self._current)

    def at(self, start: int) -> Claim | None:
        """The current claim that starts at a row."""
        if start not in self._current:
            return None
        (claim,) = from_table(Claim, self._current[start][1])
        assert isinstance(claim, Claim)
        return claim

    def put(self, claim: Claim) -> bool:
        """Let a claim take the place of the current one; False: it says the same, nothing is written."""
        before = self.at(claim.start)
        if before is not None and _claimed_fields(before) == _claimed_fields(claim):
            return False
        generation = 0 if before is None else before.generation + 1
        claim = claim.model_copy(update={"generation": generation})
        claim = claim.model_copy(
            update={"claim_id": content_key("claim", _claimed_fields(claim), generation)}
        )
        self.store.commit(TABLE, [claim], group=self.source)
        self._meet(claim.model_dump(), to_table(Claim, [claim]))
        return True

    def void(self, start: int) -> Claim | None:
        """Take back what is claimed from a row on; returns what that was."""
        before = self.at(start)
        if before is not None and not _is_void(before):
            self.put(blank(self.source, start))
        return before

    def tidy(self) -> None:
        """Delete what no longer counts: what was replaced, then the claims that took something back."""
        now = {rank[2] for rank, _ in self._current.values()}
        if not self._drop(lambda key: key not in now):
            return  # something replaced shares its file with what counts: what takes it back must stay
        void = {claim.claim_id for claim in self if _is_void(claim)}
        if void:
            self._drop(lambda key: key in void)

    def _drop(self, gone: Callable[[str], bool]) -> bool:
        """Delete the parts of which every claim has gone; False: one that has gone is left."""
        whole = True
        for part in [part for part in self.store.parts(TABLE) if part.group == self.source]:
            keys = [gone(key) for key in self.store.part_keys(TABLE, part)]
            if all(keys):
                self.store.files.delete(part.name)
            whole = whole and (all(keys) or not any(keys))
        return whole


def blank(source: str, start: int) -> Claim:
    """A claim of nothing, which a claim of something is made from."""
    return Claim(
        claim_id="",
        source=source,
        start=start,
        upto=start,
        ended=False,
        generation=0,
        content="",
        rows=(),
        digests=(),
        prompts=(),
        images=(),
        critiques=(),
        preferences=(),
        rejects=(),
    )


def _claimed_fields(claim: Claim) -> dict[str, object]:
    return claim.model_dump(exclude={"claim_id", "generation"})


def _is_void(claim: Claim) -> bool:
    return _claimed_fields(claim) == _claimed_fields(blank(claim.source, claim.start))


def differing(ours: Store, theirs: Store, source: str) -> bool:
    """Whether two runs know a source with different rows at one place, so that one is out of date."""
    mine, other = Ledger.of(ours, source), Ledger.of(theirs, source)
    for start in set(mine.starts()) & set(other.starts()):
        a, b = mine.at(start), other.at(start)
        assert a is not None
        assert b is not None
        upto = min(a.upto, b.upto)
        known = [
            {row: digest for row, digest in zip(claim.rows, claim.digests, strict=True) if row < upto}
            for claim in (a, b)
        ]
        if known[0] != known[1]:
            return True
    return False
