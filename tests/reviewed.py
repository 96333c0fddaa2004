"""A run with pairs to review, drawn by hand: the original is grey, its edit has a white square."""

import numpy as np
from PIL import Image as Pillow

from rpo_cli.pictures import encode_png, sha256
from rpo_cli.records import Edit, Image, ImageData, Pair, Verdict, content_key
from rpo_cli.store import open_store

COMMON = {"batch_size": 8, "settings": "{}", "environment": "{}", "seed": 0, "width": 16, "height": 16}


def picture(number, edited):
    pixels = np.full((16, 16, 3), number, dtype=np.uint8)
    pixels[4:8, 4:8] = 255 if edited else number
    return encode_png(Pillow.fromarray(pixels))


def pair_of(number, prompt=None, winner="b", **more):
    """Rows of one edit pair: image, edit, pair. Two pairs share a prompt."""
    prompt_id, text = f"p{number // 2}", prompt or f"prompt number {number // 2}"
    before, after = picture(number, False), picture(number, True)
    image = Image(
        **COMMON,
        image_id=content_key("image", number),
        prompt_id=prompt_id,
        prompt=text,
        index=0,
        sha256=sha256(before),
        image=ImageData(bytes=before),
    )
    edit = Edit(
        **COMMON,
        edit_id=content_key("edit", number),
        image_id=image.image_id,
        image_sha256=image.sha256,
        critique_id="c",
        prompt_id=prompt_id,
        prompt=text,
        instruction="make it white",
        attempt=0,
        guidance=1.0,
        image_guidance=1.0,
        sha256=sha256(after),
        image=ImageData(bytes=after),
    )
    sign = 1 if winner == "b" else -1
    fields = {
        "pair_id": content_key("pair", number),
        "prompt_id": prompt_id,
        "prompt": text,
        "pair_kind": "edit",
        "a_id": image.image_id,
        "b_id": edit.edit_id,
        "a_sha256": image.sha256,
        "b_sha256": edit.sha256,
        "critique_id": "c",
        "instruction": "make it white",
        "tries": 1,
        "rewards_a": {"clip": 0.0},
        "rewards_b": {"clip": float(sign)},
        "margins": {"clip": float(sign)},
        "margin": float(sign),
        "agreement": 1.0,
        "dispersion": None,
        "change": 0.1,
        "hash_distance": 9,
        "verdict": "accepted",
        "reason": "edit_won" if winner == "b" else "reversed",
        "winner": winner,
        "split": "train",
    }
    return image, edit, Pair(**{**fields, **more})


def make_run(path, count=12, **more):
    """A run directory with `count` accepted pairs; returns its store."""
    store = open_store(path, create=True)
    store.write_manifest({"preset": "shapes"})
    images, edits, pairs = zip(*(pair_of(number, **more) for number in range(count)), strict=True)
    for table, rows in (("images", images), ("edits", edits), ("pairs", pairs)):
        store.commit(table, rows, group="0badcafe")
    return store


def verdicts(store):
    """Every entry in the store, by reviewer and number."""
    rows = [Verdict(**row) for row in store.columns("verdicts", list(Verdict.model_fields)).to_pylist()]
    return sorted(rows, key=lambda row: (row.reviewer, row.number))
