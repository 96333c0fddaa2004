"""import: other people's pictures, judgements and critiques as rows of the run.

Keys are made of content (a picture under its prompt, two pictures and what was said of them), so the same
row never comes in twice, whatever source it stands in. A source is known by what it is and where it lies;
what it holds replaces what it held before. run.json names the sources that take part in the run.
"""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpo_cli import registry
from rpo_cli.errors import UsageError, nearest
from rpo_cli.exchange.hub_folder import URIS, HubPath, open_repository, parse
from rpo_cli.exchange.incoming import Options, Place, Source
from rpo_cli.exchange.licences import declared
from rpo_cli.exchange.touched import Touched, watching
from rpo_cli.hashes import FileHashes, file_hashes
from rpo_cli.identity import HUB_ID
from rpo_cli.line.context import Line
from rpo_cli.line.formats import format_of
from rpo_cli.line.import_content import Contents, cache_folder
from rpo_cli.line.import_groups import adopt, upgrade_imports
from rpo_cli.line.import_rows import RowMaker
from rpo_cli.line.imports import STAGE, entries, rejects_of, said_of, sources
from rpo_cli.line.ledger import NAMED, Ledger
from rpo_cli.line.taking import Taking, changes
from rpo_cli.records import FORMAT_VERSION, canonical_json

GENERIC = ("parquet", "jsonl")  # asked last: others know better what such a file is


@dataclass(frozen=True)
class ImportReport:
    """What a run has of one source, earlier calls included.

    Attributes:
        id: of the source in run.json.
        rows: rows of the source that were read now; what has not changed is not read.
        added, changed, withdrawn: rows of the source that say something new, something else, nothing more.
        judged: judgements with a preference; `ties` and `unanswered` have none.
        doubled: rows that say what another row of the source says; they count once.
        contradicted: pairs of pictures of which rows of the source say different things; all count.
        rejects: reason → rows.
        notes: what a user should know of how the source was read.
    """

    source: str
    id: str
    format: str
    rows: int
    added: int
    changed: int
    withdrawn: int
    prompts: int
    images: int
    judged: int
    ties: int
    unanswered: int
    critiques: int
    doubled: int
    contradicted: int
    rejected: int
    rejects: dict[str, int]
    license: str
    notes: tuple[str, ...]


def import_source(
    line: Line,
    path: str | Path,
    *,
    format: str | None = None,
    limit: int | None = None,
    split: str | None = None,
    images: str | Path | None = None,
    column: str | None = None,
    license: str | None = None,
) -> ImportReport:
    """Take the pictures, judgements and critiques of a source into the run, as they are now.

    Args:
        path: a file or folder, or a dataset of the hub, which is read where it lies: OWNER/NAME or
            hf://datasets/OWNER/NAME, also with @REVISION. run.json keeps its commit: the run stays there.
        format: name of an importer; None: found out from the files.
        limit: only the first rows of the source; what came in of later ones stays as it is.
        license: of the source, where its own card does not say it.

    Raises:
        UsageError: no source there, no format that fits, or columns that are missing.
        RpoError: the hub cannot be reached, or wants a login.
    """
    pins: dict[str, str] = {}
    place = _place(line, path, pins)
    pictures = None if images is None else _place(line, images, pins)
    options = Options(asked=format is not None, split=split, images=pictures, column=column)
    name, source = _open(place, format, options)
    about = _about(name, source, place, options, license)
    key = _key(about)
    with line.store.lock(STAGE):
        if format_of(line.store.read_manifest()) < FORMAT_VERSION:
            upgrade_imports(line.store)
        earlier = entries(line.store).get(key, {})
        notes = [f"format: {name}" if format is None else "", source.note, _moved(earlier, about)]
        notes += _beside(line, key, about)
        for note in filter(None, notes):
            line.observer.note(note)
        about = {"chunk": earlier.get("chunk", line.settings.run.rows_per_part), **about}
        replaced = adopt(line, key, about)
        known = {name: earlier[name] for name in ("rows", "content") if name in earlier}
        more: dict[str, Any] = {"datasets": pins} if pins else {}
        line.record(imports={**replaced, key: {**known, **about}}, **more)
        maker = RowMaker(key, about["source"], said_of(about), source.judged_by)
        with watching() as touched, file_hashes(rehash=line.rehash) as hashes:
            folder = cache_folder(key, about["chunk"])
            contents = _contents(source, place, options, folder, touched, hashes)
            taking = Taking(
                line=line,
                source=source,
                maker=maker,
                contents=contents,
                size=about["chunk"],
                limit=limit,
                ledger=Ledger.of(line.store, key),
                present={table: line.store.keys(table) for table in NAMED},
            )
            taking.take()
        line.record(imports={key: {**about, **_whole(taking.ledger)}})
    return _report(line, taking, about, tuple(filter(None, notes)))


def _place(line: Line, source: str | Path, pins: dict[str, str]) -> Place:
    """What a user's words mean: what is on this machine wins; a commit of the hub is noted in `pins`."""
    path, text = Path(source), str(source)
    if path.exists():
        return path
    siblings = [str(item) for item in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest(str(path), siblings)
    if not text.startswith(URIS) and (near or not HUB_ID.fullmatch(text.partition("@")[0])):
        raise UsageError(
            f"{text}: no such file or folder{near}", "of the hub: OWNER/NAME, or hf://datasets/OWNER/NAME"
        )
    reference = parse(text)
    found = open_repository(reference, line.store.read_manifest().get("datasets", {}))
    pins[reference.pin] = found.repository.commit
    return found


def _told(place: Place) -> str:
    """A source's name in rows and on cards."""
    if isinstance(place, HubPath):
        return "/".join([place.repository.id, *place.path.parts])
    return place.resolve().name


def _open(path: Place, format: str | None, options: Options) -> tuple[str, Source]:
    ours = registry.importers
    names = [*(name for name in registry.names("importers") if name not in ours), *ours]
    names.sort(key=lambda name: name in GENERIC)
    for name in [format] if format else names:
        source = registry.load("importers", name)(path, options)
        if source is not None:
            return name, source
    raise UsageError(
        f"{path}: no format fits what is there",
        f"--format NAME says what is missing; one of {', '.join(registry.names('importers'))}",
    )


def _about(
    name: str, source: Source, place: Place, options: Options, license: str | None
) -> dict[str, Any]:
    """What run.json keeps of a source, before it is read."""
    card = source.root.top if isinstance(source.root, HubPath) else source.root
    said = {
        "format": name,
        "source": _told(place),
        "license": license or source.license or declared(card) or "unknown",
        "revision": place.repository.commit if isinstance(place, HubPath) else None,
        "place": _where(place),
        "split": options.split,
        "column": options.column,
        "images": None if options.images is None else _where(options.images),
    }
    return {key: value for key, value in said.items() if value is not None}


def _where(place: Place) -> str:
    """Where a source lies, at whatever commit."""
    if isinstance(place, HubPath):
        return "/".join(["hf://datasets", place.repository.id, *place.path.parts])
    return str(place.resolve())


def _key(about: dict[str, Any]) -> str:
    """The id of a source, which no version of the row format changes."""
    told = [about.get(name) for name in ("format", "place", "split", "column", "images")]
    return hashlib.sha256(canonical_json(told).encode()).hexdigest()[:8]


def _beside(line: Line, key: str, about: dict[str, Any]) -> list[str]:
    """Other readings of the same place that take part."""
    return [
        f"{said['source']} also takes part as {said['format']}: `--withdraw {other}` takes that out"
        for other, said in sources(line).items()
        if other != key and all(said.get(name) == about.get(name) for name in ("place", "split"))
    ]


def _moved(earlier: dict[str, Any], about: dict[str, Any]) -> str:
    before, now = earlier.get("revision"), about.get("revision")
    return f"at commit {now:.12}, before at {before:.12}" if before and now and before != now else ""


def _contents(
    source: Source,
    place: Place,
    options: Options,
    folder: Path,
    touched: list[Touched],
    hashes: FileHashes,
) -> Contents:
    far = [item for item in (place, options.images) if isinstance(item, HubPath)]
    whole = isinstance(place, HubPath) and len(far) == (1 if options.images is None else 2)
    return Contents(source, " ".join(map(str, far)), whole, folder, touched, hashes)


def _whole(ledger: Ledger) -> dict[str, Any]:
    """How many rows of a source take part, and the hash of what they were read from."""
    claims = list(ledger)
    contents = [claim.content for claim in claims]
    content = hashlib.sha256(canonical_json(contents).encode()).hexdigest()
    return {"rows": sum(len(claim.rows) for claim in claims), "content": content}


def _report(line: Line, taking: Taking, about: dict[str, Any], notes: tuple[str, ...]) -> ImportReport:
    keys: dict[str, set[str]] = {table: set() for table in NAMED}
    digests: list[str] = []
    for claim in taking.ledger:
        digests += claim.digests
        for table, found in keys.items():
            found.update(getattr(claim, table))
    added, changed, withdrawn = changes(taking.before, taking.after)
    choices, contradicted = _judged(line, keys["preferences"])
    rejects = rejects_of(line, taking.maker.group)
    return ImportReport(
        source=about["source"],
        id=taking.maker.group,
        format=about["format"],
        rows=taking.read,
        added=added,
        changed=changed,
        withdrawn=withdrawn,
        prompts=len(keys["prompts"]),
        images=len(keys["images"]),
        judged=choices["a"] + choices["b"],
        ties=choices["tie"],
        unanswered=choices[None],
        critiques=len(keys["critiques"]),
        doubled=len(digests) - len(set(digests)),
        contradicted=contradicted,
        rejected=sum(rejects.values()),
        rejects=rejects,
        license=about["license"],
        notes=notes,
    )


def _judged(line: Line, keys: set[str]) -> tuple[Counter[str | None], int]:
    """The choices of these judgements, and of how many pairs of pictures they differ."""
    columns = ["preference_id", "prompt_id", "a_sha256", "b_sha256", "choice"]
    choices: Counter[str | None] = Counter()
    said: dict[tuple[str, frozenset[str]], set[str]] = defaultdict(set)
    for row in line.store.columns("preferences", columns).to_pylist() if keys else []:
        if row["preference_id"] in keys:
            choices[row["choice"]] += 1
            pair = (row["prompt_id"], frozenset((row["a_sha256"], row["b_sha256"])))
            if row["choice"] is not None:
                said[pair].add(row.get(f"{row['choice']}_sha256", "tie"))
    return choices, sum(len(told) > 1 for told in said.values())
