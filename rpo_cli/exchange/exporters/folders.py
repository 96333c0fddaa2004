"""Folders of pictures: with a table beside them, as JSON lines, unpaired, and as winners and losers."""

import io
import json
import shutil
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as paj
import pyarrow.parquet as pq

from rpo_cli.exchange.dataset import ROWS_PER_GROUP
from rpo_cli.exchange.outgoing import Exported, ExportJob, best, line, pair_id, put, rich_columns

LONGEST_DATE = 40  # characters
DATES = "of a split whose every prompt is a date, which `datasets` makes times of"


def export_imagefolder(job: ExportJob) -> Exported:
    """Pictures and metadata.parquet per split; `datasets` loads `chosen` and `rejected` as images.

    Parquet says the types of its columns: of JSON lines `datasets` drops a column that the first 10 MB do
    not have, and makes times of prompts that are all dates.

    Source: https://huggingface.co/docs/datasets/image_dataset#imagefolder
    """
    counts = {}
    for split in job.data.splits():
        folder = job.out / split
        (folder / "images").mkdir(parents=True)
        rows = (_beside(folder, row) for row in job.rows(split))
        counts[split] = 0
        with pq.ParquetWriter(folder / "metadata.parquet", _columns(), compression="snappy") as table:
            while group := list(islice(rows, ROWS_PER_GROUP)):
                table.write_table(pa.Table.from_pylist(group, schema=_columns()))
                counts[split] += len(group)
    text = (
        '`datasets.load_dataset("imagefolder", data_dir=PATH)` gives `chosen` and `rejected` as pictures.'
    )
    return counts, text


def _beside(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    """What stands in the table beside the pictures of a pair, which are written."""
    chosen, rejected = (f"images/{put(folder / 'images', row[f'jpg_{n}'])}" for n in best(row))
    names = {"chosen_file_name": chosen, "rejected_file_name": rejected}
    # rewards as JSON text: Arrow has no dictionary whose names differ from row to row
    said = {
        k: json.dumps(v, sort_keys=True) if isinstance(v, dict) else v for k, v in rich_columns(row).items()
    }
    return {**names, "prompt": row["caption"], **said}


def _columns() -> pa.Schema:
    """Of the table beside the pictures: all that `told` tells."""
    text, number = pa.string(), pa.float64()
    names = ["chosen_file_name", "rejected_file_name", "prompt", "pair_kind", "instruction"]
    sides = {"model": text, "critique": text, "flaws": pa.list_(text), "rewards": text}
    return pa.schema(
        [
            *[(name, text) for name in names],
            *[(name, number) for name in ("margin", "agreement", "dispersion", "edit_strength", "share")],
            *[("reversed", pa.bool_()), ("tries", pa.int64()), ("edited", text), ("human_label", text)],
            *[(f"{name}_{s}", kind) for s in ("chosen", "rejected") for name, kind in sides.items()],
            *[("chosen_uid", text), ("rejected_uid", text)],
        ]
    )


def export_jsonl(job: ExportJob) -> Exported:
    """JSON lines with relative paths of both pictures, and the reasons beside them; no library needed."""
    counts = {}
    for split in job.data.splits():
        counts[split] = 0
        with (job.out / f"{split}.jsonl").open("w", encoding="utf-8", newline="\n") as table:
            for row in job.rows(split):
                chosen, rejected = (f"images/{put(job.out / 'images', row[f'jpg_{n}'])}" for n in best(row))
                said = {
                    "id": pair_id(row),
                    "prompt": row["caption"],
                    "chosen": chosen,
                    "rejected": rejected,
                }
                table.write(line({**said, **rich_columns(row)}))
                counts[split] += 1
    text = (
        "Each line is a pair; `chosen` and `rejected` are paths relative to this folder. Any JSON parser "
        "gives the texts as they are; `datasets` guesses types, and the imagefolder export spares it that."
    )
    return counts, text


def export_kto(job: ExportJob) -> Exported:
    """One picture a row with a boolean `label`: image folders with metadata.jsonl, for Diffusion-KTO.

    Its script reads such folders through `datasets` 2.14, which knows metadata.csv and metadata.jsonl. A
    caption such as `null` or `1` does not come back from the former. That reader keeps one row a file, so a
    picture under two captions is two files. A picture that wins as often as it loses under its prompt is
    neither, and left out.

    Source: https://github.com/jacklishufan/diffusion-kto; Li et al. 2024, arXiv:2404.04465
    """
    counts = {}
    for split in job.data.splits():
        folder = job.out / split
        found = _with_verdicts(job, split, folder)
        kept = [row for row in found if row["label"] is not None]
        job.left_out["that win as often as they lose"] += len(found) - len(kept)
        if _all_dates([row["caption"] for row in kept]):
            job.refused[DATES] += len(kept)
            kept = []
        if not kept:
            shutil.rmtree(folder)
            continue
        for row in found:
            if row["label"] is None:
                (folder / row["file_name"]).unlink()
        with (folder / "metadata.jsonl").open("w", encoding="utf-8", newline="\n") as table:
            table.writelines(map(line, kept))
        counts[split] = len(kept)
    text = '`datasets.load_dataset("imagefolder", data_dir=PATH)` gives `image`, `caption` and `label`.'
    return counts, text


def _with_verdicts(job: ExportJob, split: str, folder: Path) -> list[dict[str, Any]]:
    """Each picture under each of its captions, and whether it wins oftener than it loses; None: neither."""
    wins: dict[tuple[str, str], int] = {}
    for row in job.rows(split):
        caption = row["caption"]
        for n, gain in zip(best(row), (1, -1), strict=True):
            file = f"images/{put(folder / 'images', row[f'jpg_{n}'], caption)}"
            again = (file, caption) in wins
            job.left_out["judged more than once, told in one row"] += again
            wins[file, caption] = wins.get((file, caption), 0) + gain
    return [
        {"file_name": file, "caption": caption, "label": gain > 0 if gain else None}
        for (file, caption), gain in wins.items()
    ]


def _all_dates(captions: Collection[str]) -> bool:
    """Whether all captions of a table, read as JSON by Arrow, would become times."""
    if not captions or any(len(caption) > LONGEST_DATE for caption in captions):
        return False
    text = "".join(line({"caption": caption}) for caption in captions)
    return not pa.types.is_string(paj.read_json(io.BytesIO(text.encode())).schema.field("caption").type)


def export_simpletuner(job: ExportJob) -> Exported:
    """win/ and lose/ with files of equal names, captions beside, and the dataloader's JSON, for Flow-DPO.

    Source: https://github.com/bghira/SimpleTuner
    """
    for side in ("win", "lose"):
        (job.out / side).mkdir()
    count = 0
    for row in job.rows("train"):
        name = pair_id(row)
        for side, n in zip(("win", "lose"), best(row), strict=True):
            (job.out / side / f"{name}.png").write_bytes(row[f"jpg_{n}"])
            (job.out / side / f"{name}.txt").write_bytes(row["caption"].encode())
        count += 1
    held_out = sum(1 for _ in job.data.rows("validation", ["label_0"]))
    job.left_out["of the validation split, for which SimpleTuner has no place"] += held_out
    config = json.dumps(_backends(), indent=2) + "\n"
    (job.out / "multidatabackend.json").write_text(config, encoding="utf-8")
    text = (
        "`multidatabackend.json` names `win` and `lose` relative to this folder: put its path in front "
        "and set `resolution`. Its `disable_multiline_split` keeps a caption of several lines one caption: "
        "without it, or where SimpleTuner is too old to know it, each line is a caption of its own. "
        "SimpleTuner has no held-out pairs, so only the train split is here."
    )
    return {"train": count}, text


def _backends() -> list[dict[str, Any]]:
    """The data sets as SimpleTuner names them: the rejected picture is a strictly paired condition."""
    shared = {"type": "local", "resolution": 512, "resolution_type": "pixel_area"}
    captions = {"caption_strategy": "textfile", "disable_multiline_split": True}
    return [
        {
            "id": "preferred",
            "dataset_type": "image",
            **shared,
            "instance_data_dir": "win",
            **captions,
            "cache_dir_vae": "cache/vae/preferred",
            "conditioning_data": ["rejected"],
        },
        {
            "id": "rejected",
            "dataset_type": "conditioning",
            "conditioning_type": "reference_strict",
            **shared,
            "instance_data_dir": "lose",
            **captions,
            "cache_dir_vae": "cache/vae/rejected",
            "source_dataset_id": "preferred",
        },
        {
            "id": "text-embeds",
            "dataset_type": "text_embeds",
            "default": True,
            "type": "local",
            "cache_dir": "cache/text",
        },
    ]
