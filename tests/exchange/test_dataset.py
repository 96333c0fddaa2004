import hashlib
import io
import json
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from rpo_cli.errors import StorageError, disk_errors
from rpo_cli.exchange.card import Facts, built, code, header, plain, render
from rpo_cli.exchange.dataset import (
    PairNumbers,
    Side,
    SplitFiles,
    commit,
    schema,
    to_row,
    winner_side,
    write_splits,
)
from rpo_cli.pictures import encode_png
from rpo_cli.records import Pair, content_key
from rpo_cli.text import split_of

PICK_A_PIC = {
    "jpg_0": "binary",
    "jpg_1": "binary",
    "label_0": "double",
    "label_1": "double",
    "has_label": "bool",
    "are_different": "bool",
    "caption": "string",
    "image_0_uid": "string",
    "image_1_uid": "string",
    "best_image_uid": "string",
    "image_0_url": "string",
    "image_1_url": "string",
    "model_0": "string",
    "model_1": "string",
    "ranking_id": "int64",
    "user_id": "int64",
    "num_example_per_prompt": "int64",
    "created_at": "timestamp[ns]",
}
REWARDS = ["clip", "vqascore"]


def picture(seed, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


def pair(number, reason="edit_won", *, prompt=None, split=None):
    prompt = prompt or f"prompt {number}"
    winner = {"edit_won": "b", "seed_won": "b", "reversed": "a"}[reason]
    margin = 1.5 if winner == "b" else -1.5
    return Pair(
        pair_id=content_key("pair", number),
        prompt_id=content_key(prompt),
        prompt=prompt,
        pair_kind="seeds" if reason == "seed_won" else "edit",
        a_id=f"a{number}",
        b_id=f"b{number}",
        a_sha256=f"sha-a{number}",
        b_sha256=f"sha-b{number}",
        critique_id="c",
        instruction=None if reason == "seed_won" else "make it red",
        tries=2,
        rewards_a={"clip": 0.1, "vqascore": 0.5},
        rewards_b={"clip": 0.4, "vqascore": 0.8},
        margins={"clip": margin, "vqascore": margin},
        margin=margin,
        agreement=1.0,
        dispersion=0.25,
        change=0.125,
        hash_distance=9,
        verdict="accepted",
        reason=reason,
        winner=winner,
        split=split or split_of(prompt, 0.3),
    )


def side(key, seed, **options):
    critique = {"critique": "the circle is blue", "flaws": ("colour: it is blue",)} if key[0] == "a" else {}
    return Side(
        id=key,
        sha256=f"sha-{key}",
        data=picture(seed, **options),
        model="generator" if key[0] == "a" else "editor",
        critique=critique.get("critique"),
        flaws=critique.get("flaws"),
        made={"seed": seed, "settings": "{}"},
    )


def row_of(pair):
    number = int(pair.a_id[1:])
    return to_row(pair, side(pair.a_id, number), side(pair.b_id, number + 1000), examples=1)


def facts(pairs, splits, **changes):
    said = {
        "build": "b" * 64,
        "pairs": PairNumbers(pairs),
        "splits": splits,
        "columns": schema(REWARDS),
        "models": {"generator": "sd 1234"},
        "counts": {"images": 4},
        "rejects": {"critique": {"bad_reply": 2}},
        "sources": {"prompts.txt": 3},
        "scales": {"clip": (0.02, "seeds of one prompt"), "vqascore": (0.2, "all images")},
        "settings": {"min_margin": 0.5},
    }
    return Facts(**{**said, **changes})


def written(folder, pairs, **options):
    rows = ((pair.split, row_of(pair)) for pair in sorted(pairs, key=lambda pair: pair.pair_id))
    return write_splits(folder, schema(REWARDS), rows, **options)


def build(folder, pairs, **options):
    splits = written(folder, pairs, **options)
    commit(folder, render(facts(pairs, splits)), splits)
    return splits


def read(folder, splits):
    return [
        row for split in splits for name in split.files for row in pq.read_table(folder / name).to_pylist()
    ]


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_pick_a_pics_columns_come_first_with_its_types():
    columns = schema(REWARDS)
    assert {field.name: str(field.type) for field in list(columns)[: len(PICK_A_PIC)]} == PICK_A_PIC
    assert str(columns.field("rewards_0").type) == "struct<clip: double, vqascore: double>"


@pytest.mark.parametrize("reason", ["edit_won", "reversed", "seed_won"])
def test_the_winner_is_labelled_on_whichever_side_it_stands(reason):
    """Over many ids both placements occur; everything of a picture moves with it."""
    placements = set()
    for number in range(40):
        example = pair(number, reason)
        row = row_of(example)
        best = winner_side(example.pair_id)
        other = 1 - best
        winner, loser = ("b", "a") if example.winner == "b" else ("a", "b")
        assert (row[f"label_{best}"], row[f"label_{other}"]) == (1.0, 0.0)
        assert row[f"image_{best}_uid"] == row["best_image_uid"] == f"{winner}{number}"
        assert row[f"image_{other}_uid"] == f"{loser}{number}"
        at = {winner: best, loser: other}
        assert (row[f"model_{at['a']}"], row[f"model_{at['b']}"]) == ("generator", "editor")
        assert (row[f"critique_{at['a']}"], row[f"critique_{at['b']}"]) == ("the circle is blue", None)
        assert row[f"flaws_{at['a']}"] == ("colour: it is blue",)
        assert (row[f"rewards_{at['a']}"]["clip"], row[f"rewards_{at['b']}"]["clip"]) == (0.1, 0.4)
        assert row[f"jpg_{at['a']}"] == encode_png(Image.open(io.BytesIO(picture(number))))
        assert row["edited"] == (None if reason == "seed_won" else at["b"])
        assert row["reversed"] == (reason == "reversed")
        assert row["margin"] == 1.5
        placements.add(best)
    assert placements == {0, 1}


def test_the_winner_stands_on_both_sides_equally_often():
    """10,000 fair coins: sd 50, so 4 sd is 200; and the id's own first bit tells nothing about it."""
    ids = [content_key(number) for number in range(10_000)]
    ones = [winner_side(key) for key in ids]
    assert abs(sum(ones) - 5_000) < 200
    assert abs(sum(one == int(key[0], 16) & 1 for one, key in zip(ones, ids, strict=True)) - 5_000) < 200


def test_the_side_of_the_winner_is_the_same_in_every_process():
    assert "".join(str(winner_side(content_key(number))) for number in range(12)) == "010100110100"


def test_pictures_stand_in_the_row_as_they_came():
    row = row_of(pair(1))
    assert {row["jpg_0"], row["jpg_1"]} == {picture(1), picture(1001)}


def test_provenance_says_where_both_pictures_come_from():
    told = json.loads(row_of(pair(3))["provenance"])
    assert told["a"] == {"id": "a3", "sha256": "sha-a3", "seed": 3, "settings": "{}"}
    assert told["b"]["seed"] == 1003
    assert (told["pair_id"], told["reason"], told["margins"]["clip"]) == (pair(3).pair_id, "edit_won", 1.5)


def test_there_is_no_tie_and_no_prompt_on_both_sides(tmp_path):
    splits = build(tmp_path, [pair(n, prompt=f"prompt {n % 20}") for n in range(60)])
    assert {split.split for split in splits} == {"train", "validation"}
    rows = {split.split: read(tmp_path, [split]) for split in splits}
    assert all({row["label_0"], row["label_1"]} == {0.0, 1.0} for found in rows.values() for row in found)
    captions = [{row["caption"] for row in found} for found in rows.values()]
    assert not captions[0] & captions[1]
    assert sum(map(len, rows.values())) == 60


def test_the_same_pairs_give_the_same_bytes_in_any_order(tmp_path):
    pairs = [pair(n, reason) for n, reason in enumerate(["edit_won", "reversed", "seed_won"] * 8)]
    build(tmp_path / "one", pairs)
    build(tmp_path / "two", pairs[::-1])
    first, second = tree(tmp_path / "one"), tree(tmp_path / "two")
    assert first.keys() == second.keys()
    assert all(first[name] == second[name] for name in first if name != "README.md")


def test_large_splits_are_cut_into_files_that_one_pattern_names(tmp_path):
    pairs = [pair(n, split="train") for n in range(30)]
    (split,) = build(tmp_path, pairs, rows_per_group=4, bytes_per_file=12_000)
    assert len(split.files) > 2
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(split.pattern)} == set(
        split.files
    )
    assert split.files[0].endswith(f"-00000-of-{len(split.files):05d}.parquet")
    rows = read(tmp_path, [split])
    assert [json.loads(row["provenance"])["pair_id"] for row in rows] == sorted(p.pair_id for p in pairs)
    groups = [pq.ParquetFile(tmp_path / name).metadata.row_group(0).num_rows for name in split.files]
    assert max(groups) <= 4


def test_rows_of_both_splits_come_in_any_turns_and_make_the_same_files(tmp_path):
    pairs = [pair(n, split=("train", "validation")[n % 3 == 0]) for n in range(23)]
    options = {"rows_per_group": 4, "bytes_per_file": 9_000}
    written(tmp_path / "in turns", pairs, **options)
    pairs.sort(key=lambda pair: (pair.split, pair.pair_id), reverse=True)
    rows = [(pair.split, row_of(pair)) for pair in pairs]
    write_splits(tmp_path / "one after the other", schema(REWARDS), rows[::-1], **options)

    first, second = tree(tmp_path / "in turns"), tree(tmp_path / "one after the other")
    assert first == second
    assert len(first) > 4


def test_rows_that_end_in_an_error_leave_drafts_that_the_next_build_sweeps(tmp_path):
    def broken():
        yield from (("train", row_of(pair(n))) for n in range(5))
        raise ValueError("unreadable")

    with pytest.raises(ValueError, match="unreadable"):
        write_splits(tmp_path, schema(REWARDS), broken(), rows_per_group=2)
    assert len(tree(tmp_path)) == 1
    (split,) = build(tmp_path, [pair(1, split="train")])
    assert tree(tmp_path).keys() == {"README.md", *split.files}


def test_the_card_tells_pairs_that_keep_their_label_without_a_score(tmp_path):
    """Means are over the sides that have a score: 0.4 and 0.8 of the winner, 0.1 and 0.5 of the loser."""
    unscored = {"rewards_a": {}, "rewards_b": {}, "margins": {}, "margin": 0.0, "reason": "label_kept"}
    pairs = [pair(1, split="train"), pair(2, split="train").model_copy(update=unscored)]
    card = render(facts(pairs, []))

    assert "| `clip` | 0.4 | 0.1 | 0.02 | seeds of one prompt |" in card
    assert "| `label_kept` | 1 | 0.00 | 0.00 | 0.00 | 0.00 | 0.00 |" in card
    assert "| `clip` |  |  | 0.02 | seeds of one prompt |" in render(facts(pairs[1:], []))


def test_a_new_build_removes_the_files_of_the_old_one_and_nothing_else(tmp_path):
    (old,) = build(tmp_path, [pair(1, split="train")])
    stranger = tmp_path / "data" / "notes.txt"
    stranger.write_text("mine")
    (new,) = build(tmp_path, [pair(2, split="train")])
    assert old.files != new.files
    assert {path.name for path in (tmp_path / "data").iterdir()} == {
        "notes.txt",
        new.files[0].removeprefix("data/"),
    }


def test_until_the_card_is_there_the_build_before_counts(tmp_path):
    (old,) = build(tmp_path, [pair(1, split="train")])
    before = (tmp_path / "README.md").read_bytes()
    (new,) = written(tmp_path, [pair(2, split="train")])
    assert (tmp_path / "README.md").read_bytes() == before
    named = yaml.safe_load(before.decode().split("---\n")[1])["configs"][0]["data_files"][0]["path"]
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(named)] == list(old.files)
    assert new.files[0] not in before.decode()


def test_a_full_disk_leaves_the_build_before(tmp_path, monkeypatch):
    build(tmp_path, [pair(1, split="train")])
    before = tree(tmp_path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rpo_cli.exchange.dataset.os.fsync", full)
    with pytest.raises(StorageError, match="the disk is full"), disk_errors(str(tmp_path)):
        build(tmp_path, [pair(2, split="train")])
    monkeypatch.undo()
    after = tree(tmp_path)
    assert {name: after[name] for name in before} == before
    build(tmp_path, [pair(1, split="train")])
    assert tree(tmp_path) == before, "drafts are swept"


def test_the_header_speaks_the_words_of_datasets():
    from datasets import Features

    split = SplitFiles("train", "data/train-x-*.parquet", ("data/train-x.parquet",), 3, 100)
    said = yaml.safe_load(header(facts([], [split])))
    expected = Features.from_arrow_schema(schema(REWARDS))._to_yaml_list()
    binary, viewer = said["dataset_info"]
    assert binary["features"] == expected
    pictures = {"jpg_0": "image", "jpg_1": "image"}
    assert viewer["features"] == [
        {**feature, "dtype": pictures[feature["name"]]} if feature["name"] in pictures else feature
        for feature in expected
    ]
    assert [config["config_name"] for config in said["configs"] if config.get("default")] == ["pickapic"]
    assert (said["task_categories"], said["size_categories"]) == (["text-to-image"], ["n<1K"])


def test_hostile_names_stay_words_in_the_card():
    hostile = "x`|\n# Heading <script>alert(1)</script> \u202e\x1b[31m ---\nlicense: mit\n" + "y" * 5000
    card = render(
        facts(
            [],
            [],
            models={hostile: hostile},
            sources={hostile: 1},
            notes=[hostile],
            rejects={hostile: {hostile: 1}},
        )
    )
    head, body = card.split("---\n", 2)[1:]
    assert yaml.safe_load(head)["license"] == "unknown"
    assert "<script>" not in body.replace(code(hostile), "")
    assert sum(line.startswith("# ") for line in card.splitlines()) == 1
    assert all(char.isprintable() or char == "\n" for char in card)
    lines = [line.replace("\\|", "") for line in body.splitlines()]
    for above, line in pairwise(lines):
        assert not (above.startswith("|") and line) or line.count("|") == above.count("|")


def test_hostile_text_in_the_header_is_quoted():
    columns = schema(["clip: x\n- evil", "#"])
    said = yaml.safe_load(
        header(facts([], [SplitFiles("train", "p", ("f",), 1, 1)], columns=columns, license="a: b\n"))
    )
    assert said["license"] == "a: b\n"
    structs = [f["struct"] for f in said["dataset_info"][0]["features"] if f["name"] == "rewards_0"]
    assert [inner["name"] for inner in structs[0]] == ["clip: x\n- evil", "#"]


def test_code_and_plain_hold_what_they_are_given():
    assert code("a|b`c\n d") == "`a\\|b'c d`"
    assert code("") == ""
    assert plain("<b> *x* [y](z)") == "&lt;b&gt; \\*x\\* \\[y\\](z)"


def test_a_card_knows_its_build_and_files(tmp_path):
    splits = build(tmp_path, [pair(n) for n in range(12)])
    card = (tmp_path / "README.md").read_text()
    assert built(card) == ("b" * 64, tuple(name for split in splits for name in split.files))
    assert built("# a person's own card\n") == ("", ())


def test_the_card_counts_what_is_in_it(tmp_path):
    pairs = [pair(1, split="train"), pair(2, "reversed", split="train"), pair(3, "reversed", split="train")]
    build(tmp_path, pairs)
    card = (tmp_path / "README.md").read_text()
    assert "| accepted | edit | `reversed` | the original beat its edit | 2 |" in card
    assert "| `edit_won` | 1 | 1.50 | 1.50 | 1.50 | 1.50 | 1.50 |" in card
    # winners' clip: 0.4 (edit won), 0.1, 0.1 (reversed): mean 0.2; losers': 0.1, 0.4, 0.4: mean 0.3
    assert "| `clip` | 0.2 | 0.3 | 0.02 | seeds of one prompt |" in card
    assert "| critique | `bad\\_reply`" not in card
    assert "| critique | `bad_reply` | 2 |" in card
    assert "No pair fell to the validation split." in card


def test_no_accepted_pair_makes_a_card_without_data(tmp_path):
    assert build(tmp_path, []) == []
    assert "configs" not in yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])


@pytest.fixture
def hub_offline(monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    return str(tmp_path / "cache")


def test_datasets_reads_bytes_by_default_and_pictures_in_the_viewer(tmp_path, hub_offline):
    from datasets import load_dataset

    pairs = [pair(n, reason) for n, reason in enumerate(["edit_won", "reversed", "seed_won"] * 5)]
    splits = build(tmp_path / "dataset", pairs)
    found = load_dataset(str(tmp_path / "dataset"), cache_dir=hub_offline)
    assert {name: len(rows) for name, rows in found.items()} == {
        split.split: split.rows for split in splits
    }
    row = found["train"][0]
    assert isinstance(row["jpg_0"], bytes)
    assert Image.open(io.BytesIO(row["jpg_0"])).size == (16, 16)
    assert {row["label_0"], row["label_1"]} == {0.0, 1.0}
    assert set(row["rewards_0"]) == {"clip", "vqascore"}
    assert row["created_at"] is None
    viewed = load_dataset(str(tmp_path / "dataset"), "viewer", cache_dir=hub_offline)["train"][0]
    pixels = hashlib.sha256(viewed["jpg_0"].tobytes()).digest()
    assert pixels == hashlib.sha256(Image.open(io.BytesIO(row["jpg_0"])).tobytes()).digest()
    assert viewed["caption"] == row["caption"]
