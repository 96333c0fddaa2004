"""The source of an import: what a user's words mean, which importer takes it, and what run.json keeps."""

import hashlib
from collections.abc import Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpo_cli import registry
from rpo_cli.errors import UsageError, nearest
from rpo_cli.exchange.card import declared
from rpo_cli.exchange.hub import URIS, open_repository, parse
from rpo_cli.exchange.importers.sidecar import looks_like_classes
from rpo_cli.exchange.incoming import Options, Source
from rpo_cli.exchange.places import HubPath, Place, cached_name
from rpo_cli.exchange.unpack import is_archive, remove_leftovers, unpacked
from rpo_cli.hashes import FileHashes, user_cache
from rpo_cli.identity import HUB_ID
from rpo_cli.line.imports.sources import sources
from rpo_cli.line.session import Line
from rpo_cli.records import canonical_json

GENERIC = ("parquet", "jsonl", "table")  # asked last: others know better what such a file is
# options that say what is read: without its meaning no importer may take a source
SAYS = {"split": "split", "images": "images", "column": "column", "columns": "map"}
_SPLIT, _TABLE = frozenset(["split"]), frozenset(["images", "column", "columns"])
TAKES: Mapping[str, Set[str]] = {
    **dict.fromkeys(("imagefolder", "jsonl", "parquet", "save-to-disk"), _SPLIT | _TABLE),
    **dict.fromkeys(("rpo", "pickapic", "hpdv2", "imagereward"), _SPLIT),
    **dict.fromkeys(("folders", "sidecar", "classes"), frozenset()),
    "open-image-preferences": _SPLIT | _TABLE,
    "richhf": _SPLIT | {"images"},
    "webdataset": _SPLIT | _TABLE - {"images"},
    "table": _TABLE,
}
HOW = ("encoding", "delimiter", "quoting")
READING = "reading 3"  # raised when the same files give other rows: then every import reads anew once


def place_of(line: Line, source: str | Path, pins: dict[str, str]) -> Place:
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


def _source_name(place: Place) -> str:
    """A source's name in rows and on cards."""
    if isinstance(place, HubPath):
        return "/".join([place.repository.id, *place.path.parts])
    own = place.parent.resolve() / place.name if place.is_symlink() else place.resolve()
    return cached_name(own) or place.resolve().name


@dataclass(frozen=True)
class Opened:
    """A source and the importer that took it.

    Attributes:
        archive: the file that it was unpacked from.
        apart: what it was read from is known by one name (a commit, an archive's hash), not file by file.
        left: what of an archive was not unpacked.
    """

    name: str
    source: Source
    archive: Path | None = None
    apart: bool = False
    left: tuple[str, ...] = ()


def open_source(stack: ExitStack, line: Line, place: Place, format: str | None, options: Options) -> Opened:
    """The source, an archive unpacked where no importer reads it as it is."""
    if isinstance(place, HubPath):
        far = isinstance(options.images, HubPath | None)
        return Opened(*_found(place, format, options), apart=far)
    if not is_archive(place):
        return Opened(*_found(place, format, options))
    direct = None if format not in (None, "webdataset") else _first(place, format, options)
    if direct is not None:
        return Opened(*direct)
    stack.enter_context(line.store.lock("unpack"))
    local = line.store.files.local
    room = user_cache().parent if local is None else Path(local) / "cache"
    if local is not None:  # elsewhere the lock is not of the folder
        remove_leftovers(room)
    folder, left = stack.enter_context(unpacked(place, room))
    try:
        found = _found(folder, format, options)
    except UsageError as error:  # a user knows the archive, not where it was unpacked
        raise UsageError(error.message.replace(str(folder), str(place)), error.hint) from error
    return Opened(*found, archive=place, apart=True, left=tuple(left))


def _found(path: Place, format: str | None, options: Options) -> tuple[str, Source]:
    found = _first(path, format, options)
    if found is not None:
        return found
    if isinstance(path, Path) and looks_like_classes(path):
        raise UsageError(
            f"{path}: folders of pictures without captions",
            "--format classes takes each folder's name as the prompt; or put a .txt beside each picture",
        )
    said = ", ".join(f"--{SAYS[option]}" for option in _named_options(options))
    raise UsageError(
        f"{path}: no format fits what is there" + f" and has a use for {said}" * bool(said),
        f"--format NAME says what is missing; one of {', '.join(registry.names('importers'))}",
    )


def _named_options(options: Options) -> list[str]:
    return [name for name in SAYS if getattr(options, name)]


def _first(path: Place, format: str | None, options: Options) -> tuple[str, Source] | None:
    """The first importer that takes a source, of those that take what the user says of it.

    Raises:
        UsageError: the format that the user names has no use for an option that is given.
    """
    ours = registry.importers
    names = [*(name for name in registry.names("importers") if name not in ours), *ours]
    names.sort(key=lambda name: name in GENERIC)
    for name in [format] if format else names:
        idle = {*_named_options(options)} - TAKES[name] if name in TAKES and name in ours else set()
        if idle and format:
            said = ", ".join(f"--{SAYS[option]}" for option in sorted(idle))
            raise UsageError(
                f"--format {name} has no use for {said}", "leave it out, or name another format"
            )
        if idle:
            continue
        source = registry.load("importers", name)(path, options)
        if source is not None:
            return name, source
    return None


def fingerprint(
    place: Place, options: Options, opened: Opened, hashes: FileHashes, kept_out: Mapping[str, str]
) -> str:
    """What rows hang on beside the files that are told while they are read."""
    far = [str(item) for item in (place, options.images) if isinstance(item, HubPath)]
    archive = [] if opened.archive is None else [f"archive {hashes.of(opened.archive)}"]
    code = registry.code_of("importers", opened.name)
    theirs = [canonical_json(code)] if code else []
    return " ".join(filter(None, [*far, *archive, READING, *theirs, _digest(kept_out)]))


def _digest(kept_out: Mapping[str, str]) -> str:
    """Of the prompts that are left out; "" for none."""
    text = canonical_json(sorted(kept_out))
    return hashlib.sha256(text.encode()).hexdigest() if kept_out else ""


def about_of(
    name: str, source: Source, place: Place, options: Options, license: str | None
) -> dict[str, Any]:
    """What run.json keeps of a source, before it is read."""
    card = source.root.top if isinstance(source.root, HubPath) else source.root
    said = {
        "format": name,
        "source": _source_name(place),
        "license": license or source.license or declared(card) or "unknown",
        "revision": place.repository.commit if isinstance(place, HubPath) else None,
        "place": _where(place),
        "split": options.split,
        "column": options.column,
        "images": None if options.images is None else _where(options.images),
        "columns": dict(options.columns) or None,
        "encoding": options.encoding,
        "delimiter": options.delimiter,
        "quoting": options.quoting,
        "code": registry.code_of("importers", name) or None,
    }
    return {key: value for key, value in said.items() if value is not None}


def _where(place: Place) -> str:
    """Where a source lies, at whatever commit."""
    if isinstance(place, HubPath):
        return "/".join(["hf://datasets", place.repository.id, *place.path.parts])
    return str(place.resolve())


def key_of(about: dict[str, Any]) -> str:
    """The id of a source, which no version of the row format changes."""
    told: list[Any] = [about.get(name) for name in ("format", "place", "split", "column", "images")]
    later = {name: about[name] for name in ("columns", *HOW) if name in about}
    told += [later] if later else []
    return hashlib.sha256(canonical_json(told).encode()).hexdigest()[:8]


def beside(line: Line, key: str, about: dict[str, Any]) -> list[str]:
    """Other readings of the same place that take part."""
    return [
        f"{said['source']} also takes part as {said['format']}: `--withdraw {other}` takes that out"
        for other, said in sources(line).items()
        if other != key and all(said.get(name) == about.get(name) for name in ("place", "split"))
    ]


def moved(earlier: dict[str, Any], about: dict[str, Any]) -> str:
    before, now = earlier.get("revision"), about.get("revision")
    return f"at commit {now:.12}, before at {before:.12}" if before and now and before != now else ""
