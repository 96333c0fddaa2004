"""Human rankings of several pictures: HPDv2 and ImageRewardDB, as their raw files."""

import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.exchange.importers.labels import rank_votes, shares
from rpo_cli.exchange.importers.parquet import columns_of, rows_of
from rpo_cli.exchange.incoming import (
    Entry,
    Options,
    Picture,
    Source,
    Vote,
    bounded,
    entries,
    inside,
    load,
    prompt_of,
    refuse,
)
from rpo_cli.exchange.places import Place, touch
from rpo_cli.exchange.raw_rows import BadRow, json_items
from rpo_cli.pictures import MAX_BYTES

HINT = "check the folder, or name another --format; see `rpo list importers`"
REWARD_DB = ("image_path", "prompt_id", "prompt", "rank")


def open_hpdv2(path: Place, options: Options) -> Source | None:
    """HPDv2: train.json (two pictures and a preference) or test.json (a ranking), pictures beside it.

    Source: https://github.com/tgxs002/HPSv2
    """
    named = [options.split] if options.split else ["train", "test"]
    tables = [path] if path.is_file() else [path / f"{name}.json" for name in named]
    table = next((file for file in tables if file.is_file() and file.suffix == ".json"), None)
    if table is None:
        if options.asked:
            raise refuse(path, f"no {' or '.join(file.name for file in tables)}", _files(path), HINT)
        return None
    keys = _keys(table, asked=options.asked)
    shapes = (("prompt", "file_path", "human_preference"), ("prompt", "image_path", "rank"))
    if not any(set(shape) <= keys for shape in shapes):
        if options.asked:
            wanted = " nor ".join(", ".join(shape) for shape in shapes)
            raise refuse(table, f"its items have neither {wanted}", ", ".join(sorted(keys)), HINT)
        return None
    root, split = table.parent, table.stem

    def item(row: int, raw: dict[str, Any]) -> Entry:
        files = _list(raw, "file_path" if "file_path" in raw else "image_path")
        places = [inside(root, name, split, "images", f"images/{split}") for name in files]
        pictures = tuple(Picture(load(file), str(name)) for file, name in zip(places, files, strict=True))
        return Entry(row, prompt_of(raw.get("prompt")), pictures, tuple(_votes(raw, len(files))))

    return Source(
        root=root,
        files=(table,),
        judged_by="human",
        read=lambda start: entries(islice(json_items(table, options.encoding), start, None), item),
        license="apache-2.0",
    )


def _keys(table: Place, *, asked: bool) -> set[str]:
    """Names in the first item of a JSON array; none where the file is something else."""
    try:
        _, first = next(json_items(table), (0, None))
    except UsageError:
        if asked:
            raise
        return set()
    return set(first) if isinstance(first, dict) else set()


def _list(raw: dict[str, Any], name: str) -> list[Any]:
    value = raw.get(name)
    if not isinstance(value, list) or len(value) < 2:
        reason = "missing_image" if name.endswith("_path") else "bad_label"
        raise BadRow(reason, f"{name}: not a list of two or more")
    return value


def _votes(raw: dict[str, Any], count: int) -> Iterator[Vote]:
    """All pairs of a ranking (rank 1 is best), or the one preference."""
    if "rank" in raw:
        yield from rank_votes(_list(raw, "rank"), count)
        return
    preference = _list(raw, "human_preference")
    if count != 2 or len(preference) != 2:
        raise BadRow("bad_label", f"{count} pictures and {len(preference)} preferences")
    choice, share = shares(*preference)
    yield Vote(0, 1, choice, share=share)


def open_imagereward(path: Place, options: Options) -> Source | None:
    """ImageRewardDB: metadata-SPLIT.parquet and images/SPLIT/, as folders or as the zip files they come in.

    Source: https://huggingface.co/datasets/zai-org/ImageRewardDB
    """
    split = options.split or "train"
    places = [path] if path.is_file() else [path / f"metadata-{split}.parquet", path / f"{split}.parquet"]
    table = next((file for file in places if file.is_file() and file.suffix == ".parquet"), None)
    if table is None:
        if options.asked:
            raise refuse(path, f"no metadata-{split}.parquet", _files(path), HINT)
        return None
    columns = columns_of([table])
    missing = [name for name in REWARD_DB if name not in columns]
    if missing:
        if options.asked:
            raise refuse(table, f"no column {', '.join(missing)}", ", ".join(columns), HINT)
        return None
    groups = _groups(table)
    zips = _Zips(table.parent)

    def group(row: int, members: list[dict[str, Any]]) -> Entry:
        if len({member["prompt"] for member in members}) > 1:
            raise BadRow("bad_label", f"prompt_id {members[0]['prompt_id']!r:.80} has several prompts")
        pictures = tuple(
            Picture(zips.picture(member["image_path"]), str(member["image_path"])) for member in members
        )
        votes = rank_votes([member["rank"] for member in members], len(members))
        return Entry(row, prompt_of(members[0]["prompt"]), pictures, tuple(votes))

    return Source(
        root=table.parent,
        files=(table,),
        judged_by="human",
        read=lambda start: entries(islice(enumerate(groups), start, None), group),
        rows=len(groups),
        license="apache-2.0",
        note=f"reading {table.name}: rows are prompts, each with its ranking",
    )


def _groups(table: Place) -> list[list[dict[str, Any]]]:
    """The rows of each prompt_id, in order of its first row; the table holds no pictures and is small."""
    found: dict[Any, list[dict[str, Any]]] = {}
    for _, row in rows_of([table], REWARD_DB):
        found.setdefault(row["prompt_id"], []).append(row)
    return list(found.values())


class _Zips:
    """Pictures by their path below images/, unpacked or in images/SPLIT/SPLIT_N.zip, read in place."""

    def __init__(self, root: Place) -> None:
        self.root = root
        self.open: tuple[Place, zipfile.ZipFile] | None = None

    def picture(self, name: Any) -> bytes:
        try:
            return load(inside(self.root, name))
        except BadRow as missing:
            if missing.reason != "missing_image" or not isinstance(name, str):
                raise
            folder = PurePosixPath(name).parent
            return self._member(inside(self.root, f"{folder}.zip"), PurePosixPath(name).name)

    def _member(self, archive: Place, name: str) -> bytes:
        touch(archive)
        try:
            if self.open is None or self.open[0] != archive:
                self.open = (archive, zipfile.ZipFile(archive.open("rb")))
            zipped = self.open[1]
            info = next((i for i in zipped.infolist() if PurePosixPath(i.filename).name == name), None)
            if info is None:
                raise BadRow("missing_image", f"{name[:200]!r}: not in {archive.name}")
            if info.file_size > MAX_BYTES:
                raise BadRow("too_large", f"{name[:200]!r}: {info.file_size:,} bytes")
            with zipped.open(info) as member:  # the header may lie about the size
                return bounded(member.read(MAX_BYTES + 1), name)
        except (zipfile.BadZipFile, OSError, RuntimeError) as error:
            raise BadRow("missing_image", f"{archive.name}: {error}") from error


def _files(path: Place) -> str:
    names = sorted(item.name for item in path.iterdir()) if path.is_dir() else [path.name]
    return ", ".join(names[:10]) or "nothing"
