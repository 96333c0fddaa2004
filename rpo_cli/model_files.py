"""What of a model's files is read: headers, weights of a variant, parts that may be absent."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

MAX_HEADER = 100 << 20  # bytes that the description of a safetensors file may have
METADATA = "__metadata__"
SUFFIX = ".safetensors"
PICKLES = (".bin", ".pt", ".ckpt", ".pth", ".pkl")

Shapes = dict[str, tuple[int, ...]]


def header(file: Path) -> dict[str, Any]:
    """Name → {"dtype", "shape", "data_offsets"}, and under "__metadata__" what its writer said.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no safetensors file, or not a whole one.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > MAX_HEADER:
            raise ValueError("no safetensors file: its header would be too long")
        found = json.loads(opened.read(length))
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise ValueError("no safetensors file: its header is no table")
    _whole(found, 8 + length, file.stat().st_size)
    return found


def _whole(found: dict[str, Any], start: int, size: int) -> None:
    ends = [entry.get("data_offsets", ())[1:2] for name, entry in found.items() if name != METADATA]
    end = start + max((end[0] for end in ends if end and isinstance(end[0], int)), default=0)
    if size < end:
        raise ValueError(f"cut short: {size:,} of {end:,} bytes")


def shapes(file: Path) -> Shapes:
    """Name → shape of every tensor; errors as of `header`."""
    try:
        found = header(file)
        return {name: tuple(map(int, entry["shape"])) for name, entry in found.items() if name != METADATA}
    except (LookupError, TypeError) as error:
        raise ValueError(f"no safetensors file: {error}") from error


def numbers(file: Path) -> int:
    """How many numbers all tensors hold; errors as of `header`."""
    return sum(map(prod, shapes(file).values()))


T = TypeVar("T")

INDEX = "model_index.json"
DENOISERS = ("unet", "transformer")
# parts without which a pipeline draws the same pictures
OPTIONAL = ("safety_checker", "feature_extractor", "image_encoder")
_TEXT = ("text_encoder", "tokenizer")
# parts without which nothing is drawn; a pipeline has some of them
_CORE = frozenset({*DENOISERS, "vae", "scheduler", *_TEXT, *(f"{name}_2" for name in _TEXT)})
_SHARD = r"(-\d{5}-of-\d{5})?"
_WEIGHTS = re.compile(
    rf"(diffusion_pytorch_model|model)(\.(?P<before>\w+))?{_SHARD}(\.(?P<after>\w+))?\.safetensors"
)


@dataclass(frozen=True)
class Published:
    """What a loader must know of a model's files beyond where they are.

    Attributes:
        variants: part ("" for a model without parts) → variant of its weights, where it has no plain ones.
        both: parts that have plain weights, which are read, and those of a variant as well.
        unused: optional parts that the index names and that are not there.
        lacking: other such parts.
        empty: parts of which the index says that there is none: they are given as None.
        needed: those of them without which nothing is drawn.
        unread: a safety checker that is there, without the extractor that it reads pictures with.
    """

    variants: dict[str, str] = field(default_factory=dict)
    both: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def none(self) -> dict[str, None]:
        """What `from_pretrained` of the pipeline is told of empty parts: not each may be left out."""
        return dict.fromkeys(self.empty)

    @property
    def variant(self) -> str | None:
        """What is given to a loader as `variant`; None where every part has plain weights."""
        return next(iter(self.variants.values()), None)

    def options(self, part: str) -> dict[str, Any]:
        """What `from_pretrained` of one part is told beside its place."""
        return {"variant": self.variants[part]} if part in self.variants else {}

    def remarks(self) -> list[str]:
        """A sentence for each thing that is not as the model's index has it."""
        found = []
        if self.variants:
            parts = "" if "" in self.variants else f" of {', '.join(sorted(self.variants))}"
            kinds = ", ".join(sorted(set(self.variants.values())))
            found.append(f"its weights{parts} are of the variant {kinds}, and there are no others")
        if self.unused:
            found.append(f"its index names {', '.join(self.unused)}, not in the folder: loaded without")
        if self.unread:
            found.append("its safety checker cannot see without a feature extractor: loaded without")
        return found


def part_loaded(ref: str, revision: str | None, load: Callable[[dict[str, Any]], T], part: str = "") -> T:
    """`load` of one part ("": a model without parts), told of the variant where there is no other.

    A hub id is asked for its files only where it does not load without.
    """
    place = Path(ref)
    if place.is_dir():
        return load(published(place).options(part))
    try:
        return load({})
    except (OSError, ValueError):
        told = _of_hub(ref, revision).options(part)
        if not told:
            raise
        return load(told)


def pipeline_loaded(
    ref: str, revision: str | None, load: Callable[[str, dict[str, Any]], T], dtype: Any
) -> T:
    """`load` of a pipeline's place, told of variants and of parts that are None by its index.

    Optional parts that are absent are left out.

    Args:
        load: of a folder or hub id, and what `from_pretrained` is told beside.
        dtype: of parts that are loaded here, since a pipeline would take the variant's weights of them.
    """
    place = Path(ref)
    if place.is_dir():
        return _from(place, published(place), load, dtype)
    folder = _snapshot(ref, revision)
    told: dict[str, Any] = {} if folder is None else {**published(folder).none}
    try:
        return load(ref, told)
    except (OSError, ValueError):
        found = _of_hub(ref, revision)
        folder = _snapshot(ref, revision)
        if (found.unused or found.unread) and folder is not None:
            return _from(folder, found, load, dtype)
        more = {**found.none, **({"variant": found.variant} if found.variants else {})}
        if more == told:
            raise
        return load(ref, more)


def _from(folder: Path, found: Published, load: Callable[[str, dict[str, Any]], T], dtype: Any) -> T:
    told: dict[str, Any] = {**found.none}
    if found.variants:
        told |= {"variant": found.variant, **_loaded(folder, found.both, dtype)}
    left_out = (*found.unused, *found.unread)
    if not left_out:
        return load(str(folder), told)
    with _without(folder, left_out) as view:
        return load(str(view), told)


@contextmanager
def _without(folder: Path, parts: Iterable[str]) -> Iterator[Path]:
    """The folder with an index that names no such parts: diffusers reads some that it is told to leave."""
    with TemporaryDirectory(prefix="rpo-") as made:
        view = Path(made)
        for path in folder.iterdir():
            if path.name != INDEX:
                (view / path.name).symlink_to(path.resolve(), path.is_dir())
        index = {**_index(folder), **{part: [None, None] for part in parts}}
        (view / INDEX).write_text(json.dumps(index), encoding="utf-8")
        yield view


def _names(ref: str, revision: str | None) -> list[str]:
    """The files of a hub id; none where the hub does not tell them."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return HfApi().list_repo_files(ref, revision=revision)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError):
        return []


def _of_hub(ref: str, revision: str | None) -> Published:
    """The same of a hub id; nothing where the hub does not tell its files."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled

    try:
        names = HfApi().list_repo_files(ref, revision=revision)
        index = Path(hf_hub_download(ref, INDEX, revision=revision)) if INDEX in names else None
    except (HfHubHTTPError, OfflineModeIsEnabled, EntryNotFoundError, OSError, ValueError):
        folder = _snapshot(ref, revision)
        return published(folder) if folder is not None else Published()
    return of_names(names, _index(index.parent) if index else {})


def _snapshot(ref: str, revision: str | None) -> Path | None:
    """The folder of the hub's cache, where it holds this revision."""
    from huggingface_hub import try_to_load_from_cache

    for name in (INDEX, "config.json"):
        found = try_to_load_from_cache(ref, name, revision=revision)
        if isinstance(found, str):
            return Path(found).parent
    return None


def _loaded(folder: Path, parts: Iterable[str], dtype: Any) -> dict[str, Any]:
    index, found = _index(folder), {}
    for part in parts:
        library, name = index[part]
        if library in ("diffusers", "transformers"):
            kind: Any = getattr(import_module(library), name)
            found[part] = kind.from_pretrained(folder, subfolder=part, dtype=dtype, use_safetensors=True)
    return found


def published(folder: Path) -> Published:
    """What is to be known of a local folder."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return of_names(names, _index(folder))


def of_names(names: Iterable[str], index: dict[str, Any]) -> Published:
    """The same of a list of files, as the hub gives it; `index` is model_index.json, {} without one."""
    kinds: dict[str, set[str]] = {}
    folders = set()
    for name in names:
        folder, _, file = name.rpartition("/")
        folders.add(folder.partition("/")[0])
        if found := _WEIGHTS.fullmatch(file):
            kinds.setdefault(folder, set()).add(found["before"] or found["after"] or "")
    wanted = {name for name, value in index.items() if _is_part(value)}
    parts = wanted if index else {""}
    absent = sorted(wanted - folders)
    variants = {part: _first(kinds[part]) for part in sorted(parts & kinds.keys()) if "" not in kinds[part]}
    return Published(
        variants,
        tuple(sorted(part for part in parts & kinds.keys() if "" in kinds[part] and len(kinds[part]) > 1)),
        tuple(name for name in absent if name in OPTIONAL),
        tuple(name for name in absent if name not in OPTIONAL),
        empty(index),
        needed(str(index.get("_class_name")), {**dict.fromkeys(empty(index)), **dict.fromkeys(wanted, 1)}),
        ("safety_checker",) if {"safety_checker"} == wanted & folders & _CHECKING else (),
    )


_CHECKING = frozenset({"safety_checker", "feature_extractor"})


def empty(index: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts that a model_index.json lists as [null, null]; a T5 of SD3 may be left out of it too."""
    null = {name for name, value in index.items() if value == [None, None]}
    if str(index.get("_class_name")).startswith("StableDiffusion3"):
        null |= {"text_encoder_3", "tokenizer_3"} - index.keys()
    return tuple(sorted(null))


def needed(pipeline: str, parts: Mapping[str, Any]) -> tuple[str, ...]:
    """Which of a pipeline's parts are None though it draws nothing without them.

    A T5 of Stable Diffusion 3 may be absent, and SDXL's first text encoder where there is a second (its
    refiner): then their tokenizers are not read.

    Args:
        pipeline: name of its class. parts: name → the part.
    """
    absent = {name for name, part in parts.items() if part is None}
    found = absent & _CORE
    if "StableDiffusionXL" in pipeline and absent.issuperset(_TEXT):
        found -= {*_TEXT}
    for name in absent:  # a text encoder is of no use without its tokenizer
        encoder = name.replace("tokenizer", "text_encoder", 1)
        if encoder != name and parts.get(encoder) is not None:
            found = found | {name}
    return tuple(sorted(found))


GET_WHOLE = "get the model whole, or give another"


def draws_nothing(parts: Sequence[str]) -> str:
    """Why a pipeline without these parts is refused."""
    return f"its {INDEX} says that it has no {', '.join(parts)}, without which it draws nothing"


def is_single_file(ref: str) -> bool:
    """Whether a model's name is that of a safetensors file here."""
    try:
        return ref.endswith(SUFFIX) and Path(ref).is_file()
    except (OSError, ValueError):  # too long a name, or a zero byte
        return False


def pickled(ref: str, revision: str | None = None) -> list[str]:
    """Pickled weights of a folder or hub id that have no safetensors beside them."""
    place = Path(ref)
    if place.is_dir():
        names = [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]
    else:
        names = [] if place.exists() else _names(ref, revision)
    safe = {name.rpartition("/")[0] for name in names if name.endswith(SUFFIX)}
    return sorted(name for name in names if name.endswith(PICKLES) and name.rpartition("/")[0] not in safe)


def pickled_hint(ref: str, revision: str | None = None) -> str | None:
    """What to do about weights that are pickled; None where that is not what is wrong."""
    if not (found := pickled(ref, revision)):
        return None
    return (
        f"only safetensors are read, and {', '.join(found[:3])} is pickled: get this model as "
        "safetensors, or `rpo convert FOLDER OUT` makes them"
    )


def _is_part(value: Any) -> bool:
    """Whether an entry of the index is [library, class] of a part that is there."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _first(kinds: set[str]) -> str:
    return "fp16" if "fp16" in kinds else min(kinds)


def _index(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
