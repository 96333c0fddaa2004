"""A run or a dataset of this tool: pairs with their reasons, which go with them into the next dataset."""

import json
from collections.abc import Mapping
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.exchange.card import built
from rpo_cli.exchange.importers.labels import shares
from rpo_cli.exchange.importers.parquet import columns_of, count, known, rows_of
from rpo_cli.exchange.incoming import (
    Entry,
    Options,
    Picture,
    Source,
    Vote,
    encoded,
    entries,
    ordered,
    prompt_of,
)
from rpo_cli.exchange.places import Place
from rpo_cli.exchange.raw_rows import BadRow
from rpo_cli.records import canonical_json

OURS = ("pair_kind", "provenance", "jpg_0", "jpg_1", "label_0", "caption")
# of a pair, told as they are; of its sides, told as NAME_a and NAME_b, image 0 being a
WHOLE = (
    "instruction",
    "margin",
    "agreement",
    "dispersion",
    "edit_strength",
    "reversed",
    "tries",
    "pair_kind",
)
SIDED = ("critique", "flaws", "rewards")
NEEDED = ("image_0_uid", "image_1_uid", "model_0", "model_1", "edited", "human_label", "share_0")


def open_rpo(path: Place, options: Options) -> Source | None:
    """A run directory of rpo, or a dataset that it built: pairs with critiques, instructions and scores."""
    run = path.is_dir() and (path / "run.json").is_file()
    folder = path / "dataset" if run else path
    if run and not (folder / "README.md").is_file():
        raise UsageError(f"{path}: a run without a dataset", f"rpo build-pairs {path}")
    files = _files(folder, options)
    columns = columns_of(files)
    if not set(OURS) <= set(columns):
        if options.asked:
            raise UsageError(
                f"{path}: no run and no dataset of rpo: no column "
                f"{', '.join(name for name in OURS if name not in columns)}",
                "`rpo list importers` has the other formats",
            )
        return None
    sided = [f"{name}_{n}" for name in SIDED for n in (0, 1)]
    wanted = [name for name in dict.fromkeys((*OURS, *WHOLE, *NEEDED, *sided)) if name in columns]
    return Source(
        root=path,
        files=tuple(files),
        judged_by="source",
        read=lambda start: entries(rows_of(files, wanted, start), _entry),
        rows=count(files),
        unused=lambda: [name for name in columns if name not in wanted and name not in DERIVED],
    )


# said again by a new build, from the rows themselves
DERIVED = (
    *("label_1", "has_label", "are_different", "best_image_uid", "image_0_url", "image_1_url"),
    *("ranking_id", "user_id", "num_example_per_prompt", "created_at"),
)


def _files(folder: Place, options: Options) -> list[Place]:
    """The data files of the build that the card names; a prompt is of the same split everywhere."""
    if folder.is_file():
        return [folder] if folder.suffix == ".parquet" else []
    card = folder / "README.md"
    named = set(built(card.read_text(encoding="utf-8", errors="replace"))[1]) if card.is_file() else set()
    found = ordered((folder / "data").glob("*.parquet")) if (folder / "data").is_dir() else []
    if named:
        found = [file for file in found if f"data/{file.name}" in named]
    return [file for file in found if not options.split or file.name.startswith(f"{options.split}-")]


def _entry(row: int, raw: dict[str, Any]) -> Entry:
    choice, share = shares(raw["label_0"])
    if raw.get("share_0") is not None:
        share = float(raw["share_0"])
    pictures = tuple(
        Picture(
            encoded(raw[f"jpg_{n}"], f"jpg_{n}"), known(raw, f"image_{n}_uid"), known(raw, f"model_{n}")
        )
        for n in (0, 1)
    )
    vote = Vote(0, 1, choice, _pair_id(raw), share, canonical_json(_rich(raw)))
    return Entry(row, prompt_of(raw["caption"]), pictures, (vote,))


def _pair_id(raw: Mapping[str, Any]) -> str:
    try:
        return str(json.loads(raw["provenance"])["pair_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadRow("bad_json", f"provenance: {error}") from error


def _rich(raw: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: raw.get(name) for name in WHOLE} | {"provenance": json.loads(raw["provenance"])}
    for name in SIDED:
        said |= {f"{name}_{side}": raw.get(f"{name}_{n}") for n, side in enumerate("ab")}
    sides = {"0": "a", "1": "b"}
    said["winner"] = "a" if raw["label_0"] == 1 else "b"
    said["edited"] = sides.get(str(raw.get("edited")))
    said["human_label"] = sides.get(str(raw.get("human_label")), raw.get("human_label"))
    return {name: value for name, value in said.items() if value is not None}
