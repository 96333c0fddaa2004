"""What `rpo import` reports: what a run has of one source, counted from the ledger."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from rpo_cli.exchange.prompts import storable
from rpo_cli.line.imports.ledger import NAMED, Ledger
from rpo_cli.line.imports.reading import Taking, changes
from rpo_cli.line.imports.sources import rejects_of
from rpo_cli.line.session import Line
from rpo_cli.records import canonical_json

LEFT_OUT = "left_out"


@dataclass(frozen=True)
class ImportReport:
    """What a run has of one source, earlier calls included.

    Attributes:
        id: of the source in run.json.
        rows: rows of the source that were read now; what has not changed is not read.
        taken, rejected, left_out: every row of the source that was looked at is one of these.
        added, changed, withdrawn: rows of the source that say something new, something else, nothing more.
        judged: judgements with a preference; `ties` and `unanswered` have none.
        doubled: rows that say what another row of the source says; they count once.
        contradicted: pairs of pictures of which rows of the source say different things; all count.
        alone: pictures that were judged by themselves, good or bad or by a number.
        unused: columns of the source that no row is made of.
        rejects: reason → rows.
        notes: what a user should know of how the source was read.
    """

    source: str
    id: str
    format: str
    rows: int
    taken: int
    left_out: int
    added: int
    changed: int
    withdrawn: int
    prompts: int
    images: int
    judged: int
    ties: int
    unanswered: int
    alone: int
    critiques: int
    doubled: int
    contradicted: int
    rejected: int
    rejects: dict[str, int]
    unused: tuple[str, ...]
    license: str
    notes: tuple[str, ...]


def whole_of(ledger: Ledger) -> dict[str, Any]:
    """How many rows of a source take part, and the hash of what they were read from."""
    claims = list(ledger)
    contents = [claim.content for claim in claims]
    content = hashlib.sha256(canonical_json(contents).encode()).hexdigest()
    return {"rows": sum(len(claim.rows) for claim in claims), "content": content}


def report_of(line: Line, taking: Taking, about: dict[str, Any], notes: tuple[str, ...]) -> ImportReport:
    keys: dict[str, set[str]] = {table: set() for table in NAMED}
    digests: list[str] = []
    for claim in taking.ledger:
        digests += claim.digests
        for table, found in keys.items():
            found.update(getattr(claim, table))
    added, changed, withdrawn = changes(taking.before, taking.after)
    choices, contradicted = _preferences(line, keys["preferences"])
    rejects = rejects_of(line, taking.maker.group)
    kept_out = rejects.pop(LEFT_OUT, 0)
    return ImportReport(
        source=about["source"],
        id=taking.maker.group,
        format=about["format"],
        rows=taking.read,
        taken=len(digests),
        left_out=kept_out,
        added=added,
        changed=changed,
        withdrawn=withdrawn,
        prompts=len(keys["prompts"]),
        images=len(keys["images"]),
        judged=choices["a"] + choices["b"],
        ties=choices["tie"],
        unanswered=choices[None],
        alone=choices["alone"],
        critiques=len(keys["critiques"]),
        doubled=len(digests) - len(set(digests)),
        contradicted=contradicted,
        rejected=sum(rejects.values()),
        rejects=rejects,
        unused=tuple(storable(name) for name in taking.source.unused()),
        license=about["license"],
        notes=notes,
    )


def _preferences(line: Line, keys: set[str]) -> tuple[Counter[str | None], int]:
    """The choices of these judgements, and of how many pairs of pictures they differ."""
    columns = ["preference_id", "prompt_id", "a_sha256", "b_sha256", "choice", "standing"]
    choices: Counter[str | None] = Counter()
    said: dict[tuple[str, frozenset[str]], set[str]] = defaultdict(set)
    for row in line.store.columns("preferences", columns).to_pylist() if keys else []:
        if row["preference_id"] in keys and row["standing"] is not None:
            choices["alone"] += 1
        elif row["preference_id"] in keys:
            choices[row["choice"]] += 1
            pair = (row["prompt_id"], frozenset((row["a_sha256"], row["b_sha256"])))
            if row["choice"] is not None:
                said[pair].add(row.get(f"{row['choice']}_sha256", "tie"))
    return choices, sum(len(told) > 1 for told in said.values())
