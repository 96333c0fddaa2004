"""Folders of pictures: with a table beside them, as JSON lines, unpaired, and as winners and losers."""

import csv
import json
from collections import Counter
from itertools import chain
from typing import Any

from rpo_cli.exchange.outgoing import Exported, Job, best, line, pair_id, put, told

FORMULA = ("=", "+", "-", "@")


def export_imagefolder(job: Job) -> Exported:
    """Pictures and metadata.jsonl per split; `datasets` loads `chosen` and `rejected` as images.

    Source: https://huggingface.co/docs/datasets/image_dataset#imagefolder
    """
    counts = {}
    for split in job.data.splits():
        folder = job.out / split
        folder.mkdir()
        counts[split] = 0
        with (folder / "metadata.jsonl").open("w", encoding="utf-8", newline="\n") as table:
            for row in job.rows(split):
                files = [put(folder / "images", row[f"jpg_{n}"]) for n in best(row)]
                names = dict(
                    zip(
                        ("chosen_file_name", "rejected_file_name"),
                        (f"images/{f}" for f in files),
                        strict=True,
                    )
                )
                table.write(line({**names, "prompt": row["caption"], **_flat(told(row))}))
                counts[split] += 1
    text = (
        '`datasets.load_dataset("imagefolder", data_dir=PATH)` gives `chosen` and `rejected` as pictures.'
    )
    return counts, text


def _flat(said: dict[str, Any]) -> dict[str, Any]:
    """Rewards as JSON text: Arrow has no dictionary whose names differ from row to row."""
    return {
        name: json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
        for name, value in said.items()
    }


def export_jsonl(job: Job) -> Exported:
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
                table.write(line({**said, **told(row)}))
                counts[split] += 1
    return counts, "Each line is a pair; `chosen` and `rejected` are paths relative to this folder."


def export_kto(job: Job) -> Exported:
    """One picture a row with a boolean `label`: image folders with metadata.csv, for Diffusion-KTO.

    A picture that wins as often as it loses under its prompt is neither, and left out.

    Source: https://github.com/jacklishufan/diffusion-kto; Li et al. 2024, arXiv:2404.04465
    """
    counts = {}
    for split in job.data.splits():
        folder = job.out / split
        folder.mkdir()
        balance: Counter[tuple[str, str]] = Counter()
        for row in job.rows(split):
            for n, gain in zip(best(row), (1, -1), strict=True):
                balance[f"images/{put(folder / 'images', row[f'jpg_{n}'])}", row["caption"]] += gain
        kept = {key: gain for key, gain in balance.items() if gain}
        with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as table:
            writer = csv.writer(table, lineterminator="\n", quoting=csv.QUOTE_ALL)
            writer.writerow(("file_name", "caption", "label"))
            writer.writerows((file, _cell(caption), gain > 0) for (file, caption), gain in kept.items())
        used = {file for file, _ in kept}
        for file in {file for file, _ in balance} - used:
            (folder / file).unlink()
        counts[split] = len(kept)
    text = '`datasets.load_dataset("imagefolder", data_dir=PATH)` gives `image`, `caption` and `label`.'
    return counts, text


def _cell(text: str) -> str:
    """A caption that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def export_simpletuner(job: Job) -> Exported:
    """win/ and lose/ with files of equal names, captions beside, and the dataloader's JSON, for Flow-DPO.

    Source: https://github.com/bghira/SimpleTuner
    """
    for side in ("win", "lose"):
        (job.out / side).mkdir()
    count = 0
    for row in chain.from_iterable(job.rows(split) for split in job.data.splits() if split == "train"):
        name = pair_id(row)
        for side, n in zip(("win", "lose"), best(row), strict=True):
            (job.out / side / f"{name}.png").write_bytes(row[f"jpg_{n}"])
            (job.out / side / f"{name}.txt").write_text(row["caption"] + "\n", encoding="utf-8")
        count += 1
    config = json.dumps(_backends(), indent=2) + "\n"
    (job.out / "multidatabackend.json").write_text(config, encoding="utf-8")
    text = (
        "`multidatabackend.json` names `win` and `lose` relative to this folder: put its path in front "
        "and set `resolution`. SimpleTuner has no held-out pairs, so only the train split is here."
    )
    return {"train": count}, text


def _backends() -> list[dict[str, Any]]:
    """The data sets as SimpleTuner names them: the rejected picture is a strictly paired condition."""
    shared = {"type": "local", "resolution": 512, "resolution_type": "pixel_area"}
    return [
        {
            "id": "preferred",
            "dataset_type": "image",
            **shared,
            "instance_data_dir": "win",
            "caption_strategy": "textfile",
            "cache_dir_vae": "cache/vae/preferred",
            "conditioning_data": ["rejected"],
        },
        {
            "id": "rejected",
            "dataset_type": "conditioning",
            "conditioning_type": "reference_strict",
            **shared,
            "instance_data_dir": "lose",
            "caption_strategy": "textfile",
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
