"""Archives: Pick-a-Pic's Parquet, WebDataset's tar files, TRL's conversations."""

import json
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rpo_cli.exchange.dataset import PICK_A_PIC, ROWS_PER_GROUP, schema
from rpo_cli.exchange.outgoing import Exported, ExportJob, best, line, member, pair_id, rich_columns

BYTES_PER_FILE = 500_000_000
TEXT = {"dtype": "string", "_type": "Value"}


def export_pickapic(job: ExportJob) -> Exported:
    """Parquet with exactly Pick-a-Pic v2's columns: pictures as bytes, labels 0 and 1, no ties.

    Source: https://huggingface.co/datasets/yuvalkirstain/pickapic_v2
    """
    columns = pa.schema(list(schema([]))[:PICK_A_PIC])
    counts = {split: _parquet(job.out, split, columns, job.rows(split)) for split in job.data.splits()}
    text = (
        '`datasets.load_dataset(PATH)` gives `jpg_0` and `jpg_1` as bytes, `load_dataset(PATH, "viewer")` '
        "the same files decoded."
    )
    return counts, text


def export_trl(job: ExportJob) -> Exported:
    """Conversations to train the critic: a picture, a question, what it said, and whether its edit won.

    TRL's unpaired preferences (`prompt`, `completion`, `label`, `images`): pictures stand with the
    prompt. A critique is desirable when the edit it asked for beat the original. Pairs without an edit
    and edits without a critique have nothing to say here, and are counted.

    Source: https://huggingface.co/docs/trl/dataset_formats
    """
    counts = {}
    for split in job.data.splits():
        talks = (_talk(job, row) for row in job.rows(split))
        counts[split] = _parquet(job.out, split, _trl_schema(), (talk for talk in talks if talk))
    counts = {split: count for split, count in counts.items() if count}
    text = (
        "For TRL's KTOTrainer on a vision-language model; `label` says whether the edit that the critique "
        "asked for won. Keep the rows with a true label for supervised fine-tuning. Set `max_length=None`."
    )
    return counts, text


def _talk(job: ExportJob, row: dict[str, Any]) -> dict[str, Any] | None:
    edited = row["edited"]
    if nothing := _reason_without_critique(row):
        job.left_out[nothing] += 1
        return None
    question = job.ask(row["caption"])
    if row["caption"] not in question:
        job.changed["prompts stand in their question with look-alikes of control tokens disarmed"] += 1
    critique = row[f"critique_{1 - edited}"]
    asked = [{"type": "image", "text": None}, {"type": "text", "text": question}]
    said = f"{critique.strip()}\n\nInstructions: {row['instruction']}"
    return {
        "images": [{"bytes": row[f"jpg_{1 - edited}"], "path": None}],
        "prompt": [{"role": "user", "content": asked}],
        "completion": [{"role": "assistant", "content": [{"type": "text", "text": said}]}],
        "label": not row["reversed"],
    }


def _reason_without_critique(row: dict[str, Any]) -> str:
    """Why a pair says nothing of a critique; "" where it does."""
    if row["edited"] is None:
        return "without an edit"
    if row["pair_kind"] == "counter":
        return "counter-edits, which no critique of the picture asks for"
    said = row[f"critique_{1 - row['edited']}"] and row["instruction"]
    return "" if said else "without a critique and an instruction"


def _trl_schema() -> pa.Schema:
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    part = pa.struct([("type", pa.string()), ("text", pa.string())])
    talk = pa.list_(pa.struct([("role", pa.string()), ("content", pa.list_(part))]))
    said = {
        "_type": "List",
        "feature": {"role": TEXT, "content": {"_type": "List", "feature": {"type": TEXT, "text": TEXT}}},
    }
    features = {
        "images": {"_type": "List", "feature": {"_type": "Image"}},
        "prompt": said,
        "completion": said,
        "label": {"dtype": "bool", "_type": "Value"},
    }
    fields = [("images", pa.list_(picture)), ("prompt", talk), ("completion", talk), ("label", pa.bool_())]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _parquet(out: Path, split: str, columns: pa.Schema, rows: Iterator[dict[str, Any]]) -> int:
    """data/SPLIT-n-of-N.parquet; returns the rows. A split without rows has no file."""
    folder = out / "data"
    folder.mkdir(exist_ok=True)
    files: list[Path] = []
    count = 0
    group = list(islice(rows, ROWS_PER_GROUP))
    while group:
        file = folder / f"{split}-{len(files):05d}"
        with pq.ParquetWriter(file, columns, compression="snappy", write_page_index=True) as writer:
            size = 0
            while group and size < BYTES_PER_FILE:
                table = pa.Table.from_pylist(group, schema=columns)
                writer.write_table(table)
                size, count = size + table.nbytes, count + len(group)
                group = list(islice(rows, ROWS_PER_GROUP))
        files.append(file)
    for number, file in enumerate(files):
        file.rename(folder / f"{split}-{number:05d}-of-{len(files):05d}.parquet")
    return count


def export_webdataset(job: ExportJob) -> Exported:
    """Tar files, winner first: diffusers' ORPO script prefers the first picture whatever the label says.

    Source: https://github.com/huggingface/diffusers/tree/main/examples/research_projects/diffusion_orpo
    """
    counts = {split: _tars(job, split) for split in job.data.splits()}
    text = (
        "Members KEY.jpg_0.jpg (the winner), KEY.jpg_1.jpg, KEY.label_0.txt, KEY.label_1.txt, "
        "KEY.original_prompt.txt and KEY.json. The pictures are PNG whatever the names say: the names are "
        "those that the public script asks for, and its decoder looks at the bytes."
    )
    return counts, text


def _tars(job: ExportJob, split: str) -> int:
    rows = job.rows(split)
    count = number = 0
    row = next(rows, None)
    while row is not None:
        with tarfile.open(job.out / f"{split}-{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            while row is not None and tar.offset < BYTES_PER_FILE:
                _sample(tar, row)
                count += 1
                row = next(rows, None)
        number += 1
    return count


def _sample(tar: tarfile.TarFile, row: dict[str, Any]) -> None:
    key = pair_id(row)
    for place, n in enumerate(best(row)):
        member(tar, f"{key}.jpg_{place}.jpg", row[f"jpg_{n}"])
    member(tar, f"{key}.json", line(rich_columns(row)).encode())
    member(tar, f"{key}.label_0.txt", b"1")
    member(tar, f"{key}.label_1.txt", b"0")
    member(tar, f"{key}.original_prompt.txt", row["caption"].encode())
