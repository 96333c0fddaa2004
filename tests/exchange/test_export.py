"""`rpo export`: equal bytes, round trips, and each public loader's own way of reading, restated."""

import io
import json
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from PIL import Image as Pillow

from rpo_cli import open_line, registry
from rpo_cli.errors import UsageError
from rpo_cli.exchange.outgoing import Built, ExportJob
from rpo_cli.line.dataset.build import build_dataset
from rpo_cli.line.dataset.export import export
from rpo_cli.line.dataset.inputs import build_pairs
from rpo_cli.line.imports.run import import_source
from rpo_cli.pictures import decode, encode_png, sha256
from rpo_cli.protocols import Silent
from rpo_cli.records import Critique, Edit, Flaw, Image, ImageData, RewardScore, content_key
from rpo_cli.train.data.singles import read_singles

ONLY = {"pairs.strategy": "imported", "score.rewards": (), "pairs.val_fraction": 0.3}
PAIRED = ("pickapic", "imagefolder", "webdataset", "simpletuner", "jsonl")
PICK_A_PIC = {
    *("are_different", "best_image_uid", "caption", "created_at", "has_label", "user_id", "ranking_id"),
    *("image_0_uid", "image_0_url", "image_1_uid", "image_1_url", "jpg_0", "jpg_1"),
    *("label_0", "label_1", "model_0", "model_1", "num_example_per_prompt"),
}
CAPTIONS = [f'scene {n}, a \u00e9 "cat"' for n in range(8)] + ["=1+1"]


def made(kind, number, **fields):
    """A row with the columns that every stage writes."""
    prompt = CAPTIONS[number]
    common = {"prompt_id": content_key("prompt", prompt), "prompt": prompt, "batch_size": 1}
    return {
        f"{kind}_id": content_key(kind, number),
        **common,
        "settings": "{}",
        "environment": "{}",
        **fields,
    }


def run_of_edits(path, write):
    """A run with an original, a critique and an edit for each caption; every third edit lost."""
    line = open_line(path)
    line.store.write_manifest({"preset": "shapes"})
    tables = {"images": [], "critiques": [], "edits": [], "rewards": []}
    for n in range(len(CAPTIONS)):
        before, after = write.png(2 * n), write.png(2 * n + 1)
        size = {"width": 8, "height": 8, "seed": n}
        image = Image(
            **made("image", n, **size, index=0, sha256=sha256(before), image=ImageData(bytes=before))
        )
        joined = {"image_id": image.image_id, "image_sha256": image.sha256}
        said = {
            "text": f"the cat is blue {n}",
            "flaws": (Flaw(aspect="colour", detail="blue"),),
            "reply": "{}",
        }
        critique = Critique(
            **made("critique", n, **joined, **said, seed=n, attempt=0, instructions=("make it red",))
        )
        asked = {"critique_id": critique.critique_id, "instruction": "make it red", "attempt": 0}
        scales = {"guidance": 7.5, "image_guidance": 1.5}
        picture = {"sha256": sha256(after), "image": ImageData(bytes=after)}
        edit = Edit(**made("edit", n, **size, **joined, **asked, **scales, **picture))
        tables["images"].append(image)
        tables["critiques"].append(critique)
        tables["edits"].append(edit)
        for subject, row, score in (("image", image, 0.0), ("edit", edit, -1.0 if n % 3 == 0 else 1.0)):
            fields = {
                "subject": subject,
                "subject_id": row.key,
                "subject_sha256": row.sha256,
                "reward": "clip",
            }
            key = content_key("score", row.key)
            scored = made("score", n, **fields, score=score) | {"score_id": key}
            tables["rewards"].append(RewardScore(**{k: v for k, v in scored.items() if k != "prompt"}))
    for table, rows in tables.items():
        line.store.commit(table, rows, group="0badcafe")
    live = {table: {row.key for row in rows} for table, rows in tables.items()}
    settings = line.settings.pairs.model_copy(
        update={"min_margin": 0.1, "max_change": 1.0, "val_fraction": 0.3}
    )
    report = build_dataset(
        line.store,
        settings,
        live=live,
        models={"generator": "sd", "editor": "ip2p"},
        notes=(),
        observer=Silent(),
    )
    assert report.accepted == len(CAPTIONS)
    assert report.validation
    return line


@pytest.fixture(scope="module")
def line(tmp_path_factory, writer):
    return run_of_edits(tmp_path_factory.mktemp("export") / "run", writer)


@pytest.fixture(scope="module")
def twin(tmp_path_factory, writer):
    """The same run made again."""
    return run_of_edits(tmp_path_factory.mktemp("export") / "twin", writer)


@pytest.fixture
def home(line):
    """The run's directory."""
    return Path(line.store.url)


def truth(path):
    """(caption, winner, loser) of every pair of a run's dataset, train and validation."""
    found = set()
    for file in (Path(path) / "dataset" / "data").glob("*.parquet"):
        for row in pq.read_table(file).to_pylist():
            sides = (row["jpg_0"], row["jpg_1"])
            found.add((row["caption"], *(sides if row["label_0"] else sides[::-1])))
    return found


def of_split(path, split):
    names = {f.name for f in (Path(path) / "dataset" / "data").glob(f"{split}-*.parquet")}
    return [
        row
        for name in sorted(names)
        for row in pq.read_table(Path(path) / "dataset" / "data" / name).to_pylist()
    ]


def tree(path):
    return {f.relative_to(path).as_posix(): f.read_bytes() for f in Path(path).rglob("*") if f.is_file()}


# --- all formats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", registry.exporters)
def test_equal_datasets_give_equal_bytes_and_a_second_export_writes_nothing(tmp_path, line, twin, format):
    first = export(line, format, tmp_path / "first")
    export(twin, format, tmp_path / "second")
    assert tree(tmp_path / "first") == tree(tmp_path / "second")
    again = export(line, format, tmp_path / "first")
    assert (first.fresh, again.fresh) == (True, False)
    assert replace(again, fresh=True) == first
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".first")]


@pytest.mark.parametrize("format", registry.exporters)
def test_every_row_of_a_dataset_is_written_left_out_or_refused(tmp_path, line, home, format):
    report = export(line, format, tmp_path / "out")
    held_out = len(of_split(home, "validation"))
    left = {"of the validation split, for which SimpleTuner has no place": held_out}
    assert report.left_out == (left if format == "simpletuner" else {})
    assert not report.refused
    rows = len(CAPTIONS) * (2 if format == "kto" else 1)
    assert sum(report.rows.values()) + sum(report.left_out.values()) == rows
    assert report.account.startswith(f"rows: {rows}: {sum(report.rows.values())} written")
    assert report.account in (tmp_path / "out" / "README.md").read_text()


def test_an_export_of_an_older_rpo_is_written_anew(tmp_path, line):
    export(line, "kto", tmp_path / "out")
    card = tmp_path / "out" / "README.md"
    card.write_text(card.read_text().replace("<!-- rpo export kto 2 ", "<!-- rpo export kto "))
    assert export(line, "kto", tmp_path / "out").fresh


@pytest.mark.parametrize("format", PAIRED)
def test_a_round_trip_brings_the_same_pairs_back(tmp_path, line, format, home):
    out = tmp_path / "out"
    export(line, format, out)
    back = open_line(tmp_path / "back", ONLY)
    for split in ("train", "validation"):
        if split == "validation" and format == "simpletuner":
            continue
        import_source(back, out, split=split if format != "simpletuner" else None)
    build_pairs(back)
    expected = truth(home)
    if format == "simpletuner":  # it has no held-out pairs
        kept = {row["caption"] for row in of_split(home, "train")}
        expected = {pair for pair in expected if pair[0] in kept}
    assert truth(tmp_path / "back") == expected


@pytest.mark.parametrize("format", registry.exporters)
def test_no_name_in_an_export_comes_from_a_row(tmp_path, line, format):
    export(line, format, tmp_path / "out")
    for name in tree(tmp_path / "out"):
        assert "scene" not in name
        assert "cat" not in name.removeprefix("train")


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path, line):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="no export of rpo"):
        export(line, "jsonl", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_an_export_of_another_dataset_is_replaced_whole(tmp_path, line, write):
    export(line, "webdataset", tmp_path / "out")
    other = open_line(tmp_path / "other", ONLY)
    write.file("win/a.png", write.png(90))
    write.file("lose/a.png", write.png(91))
    write.file("win/a.txt", "p")
    import_source(other, write.root)
    build_pairs(other)
    export(other, "jsonl", tmp_path / "out")
    assert sorted(name.partition("/")[0] for name in tree(tmp_path / "out")) == [
        "README.md", "images", "images", "train.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize("format", sorted(registry.exporters))
def test_an_export_is_on_disk_before_its_readme_says_that_it_is_whole(tmp_path, line, monkeypatch, format):
    synced, replace, fsync = set(), Path.replace, os.fsync

    def sync(handle):
        synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    def name_readme(draft, final):
        if final.name == "README.md":
            others = {place for place in final.parent.rglob("*") if place != draft}
            assert others
            assert {place.stat().st_ino for place in others} <= synced
            named.append(final)
        return replace(draft, final)

    named = []
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", name_readme)
    export(line, format, tmp_path / "out")
    assert len(named) == 1
    assert tmp_path.stat().st_ino in synced  # the name of the export itself


def test_an_export_without_a_dataset_says_what_makes_one(tmp_path):
    line = open_line(tmp_path / "run")
    line.record()
    with pytest.raises(UsageError) as caught:
        export(line, "jsonl")
    assert "build-pairs" in caught.value.hint


# --- Salesforce, diffusers, MaPO, DSPO, SPO: Pick-a-Pic's columns --------------------------------------


@pytest.fixture
def pickapic(tmp_path, line, home):
    return export(line, "pickapic").path, truth(home), str(tmp_path / "cache")


def test_salesforce_reads_the_default_configuration_and_stacks_the_winner_first(pickapic):
    """It names no configuration, opens bytes, and takes jpg_0 first where label_0 is not 0."""
    path, expected, cache = pickapic
    assert "pickapic" in Path(path).name  # only then does it drop ties, and we have none
    found = set()
    for split in ("train", "validation"):
        for row in load_dataset(path, split=split, cache_dir=cache):
            pictures = [Pillow.open(io.BytesIO(row[name])).convert("RGB") for name in ("jpg_0", "jpg_1")]
            first, second = pictures if row["label_0"] else pictures[::-1]
            found.add((row["caption"], encode_png(first), encode_png(second)))
    assert found == expected


def test_diffusers_takes_any_label_but_zero_as_the_first_picture(pickapic):
    path, expected, cache = pickapic
    rows = load_dataset(path, split="train", cache_dir=cache)
    winners = {(row["caption"], row["jpg_0"] if row["label_0"] != 0 else row["jpg_1"]) for row in rows}
    assert winners <= {pair[:2] for pair in expected}
    assert set(rows["label_0"]) <= {0.0, 1.0}


def test_mapo_drops_rows_of_equal_labels_and_loses_none(pickapic):
    path, _, cache = pickapic
    rows = load_dataset(path, split="train", cache_dir=cache)
    assert len([row for row in rows if row["label_0"] != row["label_1"]]) == len(rows)


def test_the_columns_are_exactly_those_of_pick_a_pic_v2(pickapic):
    path, _, _ = pickapic
    (file,) = Path(path).glob("data/train-*.parquet")
    assert file.name == "train-00000-of-00001.parquet"
    binary = [field.name for field in pq.read_schema(file) if str(field.type) == "binary"]
    assert binary == ["jpg_0", "jpg_1"]
    assert set(pq.read_schema(file).names) == PICK_A_PIC


def test_the_viewer_configuration_gives_pictures(pickapic):
    path, _, cache = pickapic
    row = load_dataset(path, "viewer", split="train", cache_dir=cache)[0]
    assert row["jpg_0"].size == (8, 8)


# --- diffusers' ORPO script ----------------------------------------------------------------------------


def test_orpo_finds_the_winner_first_though_its_label_test_never_fires(tmp_path, line, home):
    """It decodes members by their last extension: .txt to text, .jpg to a picture; text never equals 0."""
    path = Path(export(line, "webdataset").path)
    decoders = {"txt": bytes.decode, "jpg": lambda data: Pillow.open(io.BytesIO(data)), "json": json.loads}
    found = set()
    for file in sorted(path.glob("*.tar")):
        samples = {}
        with tarfile.open(file) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.uname, member.mode) == (0, 0, "", 0o644)
                key, _, rest = member.name.partition(".")
                decoded = decoders[rest.rpartition(".")[2]](tar.extractfile(member).read())
                samples.setdefault(key, {})[rest] = (
                    encode_png(decoded) if rest.endswith(".jpg") else decoded
                )
        for sample in samples.values():
            pair = [sample["jpg_0.jpg"], sample["jpg_1.jpg"]]
            if sample["label_0.txt"] == 0:
                pair = pair[::-1]
            found.add((sample["original_prompt.txt"], *pair))
    assert found == truth(home)


def test_datasets_reads_the_tar_files_with_one_column_per_suffix(tmp_path, line, home):
    path = export(line, "webdataset").path
    files = {"train": f"{path}/train-*.tar"}
    rows = load_dataset("webdataset", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert set(rows.column_names) >= {
        "jpg_0.jpg",
        "jpg_1.jpg",
        "original_prompt.txt",
        "label_0.txt",
        "json",
    }
    assert len(rows) == len(of_split(home, "train"))


# --- Diffusion-KTO -------------------------------------------------------------------------------------


def test_kto_reads_one_picture_a_row_with_a_boolean_label(tmp_path, line, home):
    path = export(line, "kto").path
    rows = load_dataset("imagefolder", data_dir=path, split="train", cache_dir=str(tmp_path / "cache"))
    expected = set()
    for row in of_split(home, "train"):
        expected |= {(row["caption"], row[f"jpg_{n}"], row[f"label_{n}"] == 1) for n in (0, 1)}
    assert {(row["caption"], encode_png(row["image"]), row["label"]) for row in rows} == expected
    assert isinstance(rows[0]["label"], bool)
    singles = read_singles(Path(path), "train")  # what `rpo train --method kto --dataset` reads of it
    names = {(caption, sha256(data), label) for caption, data, label in expected}
    assert {(item.caption, item.picture, item.good) for item in singles} == names


def test_a_picture_that_wins_and_loses_equally_often_is_no_label(tmp_path, write):
    pairs = [(1, 2), (2, 3), (1, 3)]
    for n in (1, 2, 3):
        write.file(f"{n}.png", write.png(n))
    write.lines(
        "p.jsonl", [{"prompt": "p", "chosen": f"{a}.png", "rejected": f"{b}.png"} for a, b in pairs]
    )
    line = open_line(tmp_path / "run", {**ONLY, "pairs.val_fraction": 0.0})
    import_source(line, write.root)
    build_pairs(line)
    report = export(line, "kto")
    path = Path(report.path)
    table = [json.loads(text) for text in (path / "train" / "metadata.jsonl").read_text().splitlines()]
    assert sorted(row["label"] for row in table) == [False, True]
    assert len(list((path / "train" / "images").iterdir())) == 2
    assert report.left_out == {
        "that win as often as they lose": 1,
        "judged more than once, told in one row": 3,
    }
    assert report.account.startswith("rows: 6: 2 written, 4 left out (")  # 3 pairs judge two pictures each


# --- SimpleTuner, image folders, JSON lines ------------------------------------------------------------


def test_simpletuner_pairs_two_folders_by_name(tmp_path, line, home):
    path = Path(export(line, "simpletuner").path)
    backends = {entry["id"]: entry for entry in json.loads((path / "multidatabackend.json").read_text())}
    preferred, rejected = backends["preferred"], backends[backends["preferred"]["conditioning_data"][0]]
    assert (rejected["dataset_type"], rejected["conditioning_type"]) == ("conditioning", "reference_strict")
    win, lose = (path / entry["instance_data_dir"] for entry in (preferred, rejected))
    assert sorted(f.name for f in win.iterdir()) == sorted(f.name for f in lose.iterdir())
    for row in of_split(home, "train"):
        name = json.loads(row["provenance"])["pair_id"]
        assert (win / f"{name}.png").read_bytes() == row["jpg_0" if row["label_0"] else "jpg_1"]
        for side in (win, lose):
            assert (side / f"{name}.txt").read_bytes() == row["caption"].encode()
    assert preferred["disable_multiline_split"] is rejected["disable_multiline_split"] is True


def test_an_image_folder_gives_both_pictures_of_a_row_and_the_reasons(tmp_path, line, home):
    path = export(line, "imagefolder").path
    rows = load_dataset("imagefolder", data_dir=path, split="validation", cache_dir=str(tmp_path / "cache"))
    expected = {pair for pair in truth(home) if pair[0] in set(rows["prompt"])}
    assert {(r["prompt"], encode_png(r["chosen"]), encode_png(r["rejected"])) for r in rows} == expected
    assert rows[0]["instruction"] == "make it red"


def test_json_lines_name_files_that_are_there_and_keep_the_reasons(tmp_path, line, home):
    path = Path(export(line, "jsonl").path)
    for split in ("train", "validation"):
        rows = [json.loads(text) for text in (path / f"{split}.jsonl").read_text().splitlines()]
        assert len(rows) == len(of_split(home, split))
        for row in rows:
            assert decode((path / row["chosen"]).read_bytes()).size == (8, 8)
            edited = row["edited"]
            assert row["reversed"] == (edited == "rejected")
            original = "rejected" if edited == "chosen" else "chosen"
            assert row[f"critique_{original}"].startswith("the cat is blue")
            assert row[f"rewards_{original}"] == {"clip": 0.0}


# --- TRL -----------------------------------------------------------------------------------------------


def test_trl_gets_no_counter_edit_for_no_critique_has_asked_for_one(tmp_path, line):
    folder = tmp_path / "dataset"
    shutil.copytree(line.store.path("dataset"), folder)
    for file in (folder / "data").glob("*.parquet"):
        table = pq.read_table(file)
        kinds = pa.array(["counter"] * (table.num_rows - 1) + ["edit"])
        place = table.column_names.index("pair_kind")
        pq.write_table(table.set_column(place, "pair_kind", kinds), file)

    (tmp_path / "out").mkdir()
    job = ExportJob(Built.at(folder), tmp_path / "out", str, lambda: None)
    counts, _ = registry.load("exporters", "trl")(job)

    assert counts == {"train": 1, "validation": 1}
    assert job.left_out == {"counter-edits, which no critique of the picture asks for": len(CAPTIONS) - 2}


def test_trl_reads_conversations_whose_picture_stands_on_the_side_of_the_prompt(tmp_path, line, home):
    """Unpaired preferences: as many image parts in the prompt as pictures; the assistant completes."""
    path = export(line, "trl").path
    rows = load_dataset(path, split="train", cache_dir=str(tmp_path / "cache"))
    pairs = {row["critique_0"] or row["critique_1"]: row for row in of_split(home, "train")}
    assert len(rows) == len(pairs)
    for row in rows:
        parts = [part for message in row["prompt"] for part in message["content"]]
        assert [part["type"] for part in parts].count("image") == len(row["images"]) == 1
        assert [message["role"] for message in row["completion"]] == ["assistant"]
        said = row["completion"][0]["content"][0]["text"]
        pair = pairs[said.partition("\n")[0]]
        assert said.endswith("Instructions: make it red")
        assert pair["caption"] in parts[1]["text"]
        assert row["label"] is (not pair["reversed"])
        # the picture that was criticised: the original, not its edit
        assert np.array_equal(row["images"][0], decode(pair[f"jpg_{1 - pair['edited']}"]))
