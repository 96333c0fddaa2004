"""Layouts that people have: captions beside pictures, archives, column maps, saved data sets, runs."""

import json
import os
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rpo_cli.errors import RpoError, UsageError
from rpo_cli.exchange.importers.layouts import read_map
from rpo_cli.exchange.incoming import Bad, Options
from rpo_cli.line.dataset.inputs import build_pairs
from rpo_cli.line.imports.opening import _found as detect
from rpo_cli.line.imports.run import import_source
from rpo_cli.line.session import open_line
from tests.sources import prompts, read, reasons, votes

ONLY = {"pairs.strategy": "imported", "score.rewards": (), "pairs.val_fraction": 0.0}


def bring(run, source, options=None, **said):
    return import_source(open_line(run, {"run.rows_per_part": 2, **(options or {})}), Path(source), **said)


def dataset(run):
    found = [pq.read_table(file).to_pylist() for file in (Path(run) / "dataset" / "data").glob("*.parquet")]
    return {row["caption"]: row for rows in found for row in rows}


# --- folders ---------------------------------------------------------------------------------------------


def test_captions_beside_pictures_are_read_in_folders_of_any_depth(write):
    for number, (name, caption) in enumerate(
        [("10_things/0", ".txt"), ("10_things/1", ".caption"), ("2", ".txt")]
    ):
        write.file(f"{name}.png", write.png(number))
        write.file(f"{name}{caption}", f"\ufeffprompt {number}\n")
    name, entries = read(write.root)
    assert name == "sidecar"
    assert prompts(entries) == ["prompt 0", "prompt 1", "prompt 2"]


def test_what_has_no_partner_or_two_is_a_reject_or_counted_and_never_guessed(write, tmp_path):
    write.file("a.png", write.png(0))
    write.file("a.txt", "a")
    write.file("lone.png", write.png(1))
    write.file("two.png", write.png(2))
    write.file("two.jpg", write.png(3, format="JPEG"))
    write.file("two.txt", "two")
    write.file("both.png", write.png(4))
    write.file("both.txt", "x")
    write.file("both.caption", "y")
    write.file("cp1252.png", write.png(5))
    write.file("cp1252.txt", "café".encode("cp1252"))
    write.file("orphan.txt", "no picture")
    write.file("notes.md", "nothing")
    write.file(".DS_Store", "hidden")
    _, source = detect(write.root, None, Options())
    entries = list(source.read(0))
    # in the order of their names: a, both, cp1252, lone, two
    assert reasons(entries) == {1: "doubled_name", 2: "bad_text", 3: "no_prompt", 4: "doubled_name"}
    assert source.left() == [
        "1 captions without a picture were left out",
        "1 files that are no pictures or captions were left out",
    ]
    report = bring(tmp_path / "run", write.root)
    assert (report.taken, report.rejected, report.left_out) == (1, 4, 0)
    assert prompts(read(write.root, encoding="cp1252")[1]) == ["a", "café"]


def test_a_class_folders_name_is_a_prompt_only_where_the_user_says_so(write):
    write.file("red_cat/0.png", write.png(0))
    write.file("dog/1.png", write.png(1))
    with pytest.raises(UsageError, match="folders of pictures without captions") as error:
        read(write.root)
    assert "--format classes" in error.value.hint
    assert prompts(read(write.root, "classes")[1]) == ["dog", "red_cat"]


@pytest.mark.parametrize("sides", [("w", "l"), ("win", "lose"), ("chosen", "rejected")])
def test_winners_and_losers_pair_in_folders_inside_and_whatever_their_unicode_form(write, sides):
    win, lose = sides
    for number, name in enumerate(["sub/a", "b", "caf\u00e9"]):
        write.file(f"{win}/{name}.png", write.png(number))
        other = unicodedata.normalize("NFD", name)
        write.file(f"{lose}/{other}.png", write.png(10 + number))
        write.file(f"{win}/{name}.txt", f"prompt {name}")
    name, entries = read(write.root)
    assert (name, prompts(entries)) == ("folders", ["prompt b", "prompt café", "prompt sub/a"])
    assert votes(entries) == [("a", None)] * 3


@pytest.mark.parametrize("table", ["metadata.json", "metadata.csv", "metadata.tsv", "metadata.jsonl"])
def test_each_folder_may_have_its_own_table(write, table):
    for folder in ("one", "two"):
        write.file(f"{folder}/0.png", write.png(len(folder)))
        write.file(f"{folder}/lone.png", write.png(7))
        row = {"file_name": "0.png", "prompt": f"a {folder}", "seed": 7}
        ends = {".json": json.dumps([row]), ".jsonl": json.dumps(row) + "\n"}
        mark = "\t" if table.endswith("tsv") else ";"
        text = "\n".join(mark.join(map(str, line)) for line in (row.keys(), row.values())) + "\n"
        write.file(f"{folder}/{table}", ends.get(Path(table).suffix, text))
    name, source = detect(write.root, None, Options())
    assert (name, prompts(list(source.read(0)))) == ("imagefolder", ["a one", "a two"])
    assert source.unused() == ["seed"]
    assert source.left() == ["2 pictures that no row names were left out"]


def test_a_table_that_is_no_utf8_or_badly_quoted_is_refused_with_its_place(write):
    write.file("0.png", write.png(0))
    table = write.file("metadata.csv", "file_name,prompt\n0.png,café\n".encode("cp1252"))
    with pytest.raises(UsageError, match=r"metadata.csv: line 2: byte 26 .*0xe9"):
        read(write.root)
    assert prompts(read(write.root, encoding="cp1252")[1]) == ["café"]
    table.write_text("file_name,prompt\n0.png,a cat, on white\n")
    with pytest.raises(UsageError, match=r"metadata\.csv:2: 3 cells"):
        read(write.root)


def test_a_row_that_cannot_be_taken_is_told_with_file_and_line(write):
    write.file("0.png", write.png(0))
    rows = [{"file_name": "0.png", "prompt": "a"}, {"file_name": "gone.png", "prompt": "b"}]
    rows += [
        {"file_name": "0.png", "prompt": "\ud800"},
        {"file_name": "https://x.org/0.png", "prompt": "c"},
    ]
    write.file("metadata.jsonl", "\n\n".join(map(json.dumps, rows)) + '\n{"file_name"\n')
    _, entries = read(write.root)
    told = {
        entry.row: (entry.reason, entry.detail.split(": ")[0])
        for entry in entries
        if isinstance(entry, Bad)
    }
    assert told == {
        1: ("missing_image", "metadata.jsonl:3"),
        2: ("bad_text", "metadata.jsonl:5"),
        3: ("url", "metadata.jsonl:7"),
        4: ("bad_json", "metadata.jsonl:8"),
    }


def test_a_file_name_in_another_encoding_is_a_reject_and_not_the_end(write, tmp_path):
    write.file("a.png", write.png(0))
    write.file("a.txt", "a cat")
    for ending, data in ((b".png", write.png(1)), (b".txt", b"a dog")):
        with open(os.fsencode(write.root) + b"/caf\xe9" + ending, "wb") as file:
            file.write(data)
    report = bring(tmp_path / "run", write.root)
    assert (report.taken, report.rejects) == (1, {"bad_text": 1})


# --- archives --------------------------------------------------------------------------------------------


def packed(folder, kind):
    """An archive of a folder's files, in the order of their names backwards."""
    files = sorted((file for file in folder.rglob("*") if file.is_file()), reverse=True)
    path = folder.parent / f"packed.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in files:
                archive.write(file, Path("top") / file.relative_to(folder))
        return path
    mode = {"tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.xz": "w:xz", "tar.bz2": "w:bz2"}[kind]
    with tarfile.open(path, mode) as archive:
        for file in files:
            archive.add(file, Path("top") / file.relative_to(folder))
    return path


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tgz", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("layout", ["sidecar", "folders", "imagefolder"])
def test_a_packed_folder_is_read_like_the_folder(write, tmp_path, kind, layout):
    names = {"sidecar": ["0", "z/1"], "folders": ["win/0", "lose/0"], "imagefolder": ["0", "1"]}[layout]
    for number, name in enumerate(names):
        write.file(f"{name}.png", write.png(number))
        if layout != "imagefolder":
            write.file(f"{name}.txt", f"prompt {Path(name).name}")
    if layout == "imagefolder":
        rows = [{"file_name": f"{n}.png", "prompt": f"prompt {n}"} for n in (0, 1)]
        write.file("metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    whole = bring(tmp_path / "one", write.root)
    archive = packed(write.root, kind)
    report = bring(tmp_path / "two", archive)
    assert (report.images, report.judged) == (whole.images, whole.judged)
    samples = layout == "sidecar" and kind != "zip"  # a tar whose files stand together is a WebDataset too
    assert (whole.format, report.format) == (layout, "webdataset" if samples else layout)
    again = bring(tmp_path / "two", archive)
    assert (again.rows, again.added) == (0, 0)  # the archive is the same: no row is read
    assert not list((tmp_path / "two").rglob(".unpacked-*"))


def test_an_archive_gives_nothing_outside_and_counts_what_it_leaves_out(write, tmp_path):
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", write.png(0))
        archive.writestr("a.txt", "a cat")
        archive.writestr("../out.txt", "out")
        archive.writestr("/abs.txt", "out")
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    report = bring(tmp_path / "run", path)
    assert report.taken == 1
    assert any(
        "3 entries that are links, devices or lead out were left out" in note for note in report.notes
    )
    assert not (tmp_path / "out.txt").exists()
    for name, data in (("broken.zip", b"PK\x03\x04 no"), ("broken.tar.gz", b"\x1f\x8b no")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(RpoError, match=name):
            bring(tmp_path / "other", tmp_path / name)


def test_stray_members_stand_between_no_two_members_of_a_sample(write):
    members = [("README.md", b"x"), ("._0.png", b"x"), ("0.png", write.png(0)), ("0.npy", b"x")]
    members += [("0.txt", b"a cat"), ("__MACOSX/._0.txt", b"x"), ("1.png", write.png(1)), ("1.cls", b"3")]
    members += [("1.txt", b"a dog"), ("index.json", b"{}")]
    name, source = detect(write.tar("a.tar", members), None, Options())
    assert (name, prompts(list(source.read(0)))) == ("webdataset", ["a cat", "a dog"])
    assert source.left() == [
        "1 files of other endings (.md) were left out",
        "1 files of other endings (.npy) were left out",
        "2 hidden files and links were left out",
        "1 names without a picture were left out",
    ]


# --- columns ---------------------------------------------------------------------------------------------


def png_of(write, seed):
    return {"bytes": write.png(seed), "path": None}


@pytest.mark.parametrize(
    "kind", ["large_binary", "binary_view", "list", "fixed_list", "struct", "path_struct", "text_path"]
)
def test_a_picture_column_is_read_in_any_of_arrows_shapes(write, kind):
    write.file("imgs/0.png", write.png(0))
    write.file("imgs/1.png", write.png(1))
    data = [write.png(0), write.png(1)]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = {
        "large_binary": pa.array(data, pa.large_binary()),
        "binary_view": pa.array(data, pa.binary_view()),
        "list": pa.array([[png_of(write, 0)], [png_of(write, 1)]], pa.list_(struct)),
        "fixed_list": pa.array([[png_of(write, 0)], [png_of(write, 1)]], pa.list_(struct, 1)),
        "struct": pa.array([png_of(write, 0), png_of(write, 1)], struct),
        "path_struct": pa.array([{"bytes": None, "path": f"imgs/{n}.png"} for n in (0, 1)], struct),
        "text_path": pa.array([f"imgs/{n}.png" for n in (0, 1)]),
    }[kind]
    name = "images" if kind.endswith("list") else "image"
    prompt = pa.array(["a cat", "a dog"]).dictionary_encode()
    pq.write_table(pa.table({name: column, "prompt": prompt, "seed": [1, 2]}), write.file("t.parquet", b""))
    format, source = detect(write.root, None, Options())
    entries = list(source.read(0))
    assert (format, prompts(entries), source.unused()) == ("parquet", ["a cat", "a dog"], ["seed"])
    assert [entry.pictures[0].data for entry in entries] == data


def test_addresses_are_rejects_that_say_so_and_nothing_is_fetched(write):
    rows = [{"image": "https://example.org/a.png", "prompt": "a"}, {"image": "s3://b/c.png", "prompt": "b"}]
    write.parquet("t.parquet", rows)
    _, entries = read(write.root)
    assert reasons(entries) == {0: "url", 1: "url"}
    assert "nothing is fetched" in entries[0].detail


@pytest.mark.parametrize("splits", [False, True])
def test_what_save_to_disk_writes_is_read(write, tmp_path, splits):
    write.file("0.png", write.png(0))
    rows = {"image": [png_of(write, 0), png_of(write, 1)], "prompt": ["a cat", "a dog"], "seed": [1, 2]}
    saved = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    if splits:
        saved = datasets.DatasetDict({"train": saved, "test": saved.select([1])})
    saved.save_to_disk(tmp_path / "saved")
    name, source = detect(tmp_path / "saved", None, Options())
    assert (name, prompts(list(source.read(0)))) == ("save-to-disk", ["a cat", "a dog"])
    assert prompts(list(source.read(1))) == ["a dog"]
    assert source.unused() == ["seed"]
    assert ("reading split train" in source.note) == splits
    if splits:
        assert prompts(read(tmp_path / "saved", split="test")[1]) == ["a dog"]
        with pytest.raises(UsageError, match="no split 'dev'"):
            read(tmp_path / "saved", split="dev")


# --- column maps and labels ------------------------------------------------------------------------------


def mapped(write, choices, text="caption=said,chosen=one,rejected=two,winner=choice", **options):
    """The entries of a table with columns of other names."""
    write.file("p/0.png", write.png(0))
    write.file("p/1.png", write.png(1))
    rows = [
        {"said": f"prompt {n}", "one": "p/0.png", "two": "p/1.png", "choice": choice, "seed": n}
        for n, choice in enumerate(choices)
    ]
    path = write.lines("t.jsonl", rows)
    _, source = detect(path, None, Options(columns=read_map([text]), **options))
    return source, list(source.read(0))


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (["left", "RIGHT", "tie", None, "a", "B"], ["a", "b", "tie", None, "a", "b"]),
        ([0, 1, 1], ["a", "b", "b"]),
        ([1, 2, 2], ["a", "b", "b"]),
        (["1", "2", ""], ["a", "b", None]),
        (["one", "two"], ["a", "b"]),
        (["p/1.png", "p/0.png"], ["b", "a"]),
        (["image_a", "image_b", "Image 0"], ["a", "b", "a"]),
    ],
)
def test_a_winner_is_a_word_a_place_a_column_or_a_path(write, choices, said):
    source, entries = mapped(write, choices)
    assert votes(entries) == [(choice, None) for choice in said]
    assert "column 'choice' is read as" in source.note
    assert source.unused() == ["seed"]


def test_a_share_of_votes_keeps_its_number(write):
    _, entries = mapped(write, [0.7, 0.2, 0.5, 1.0, 0.0])
    assert votes(entries) == [("a", 0.7), ("b", 0.2), ("tie", None), ("a", None), ("b", None)]
    _, entries = mapped(write, [1, 0], "caption=said,a=one,b=two,share=choice")
    assert votes(entries) == [("a", None), ("b", None)]
    _, entries = mapped(write, [1, 2], "caption=said,a=one,b=two,winner1=choice")
    assert votes(entries) == [("a", None), ("b", None)]


def test_numbers_that_could_mean_two_things_are_refused(write):
    for choices in ([1, 1], [0, 1, 2], [3], [0.5, 2]):
        with pytest.raises(UsageError, match="does not say which picture is better") as error:
            mapped(write, choices)
        assert "winner0=choice" in error.value.hint
    _, entries = mapped(write, ["left", "maybe", True])
    assert reasons(entries) == {1: "bad_label", 2: "bad_label"}


def test_a_map_that_names_no_role_or_no_column_is_refused_with_what_there_is(write):
    for text, said in (
        ("capton=a", "did you mean 'caption'"),
        ("caption", "not ROLE=COLUMN"),
        ("caption=a,prompt=b", "named twice"),
    ):
        with pytest.raises(UsageError, match=said):
            read_map([text])
    with pytest.raises(UsageError, match="no such column; the source has: said, one, two, choice, seed"):
        mapped(write, ["left"], "caption=says")


def test_labels_of_words_are_understood_and_others_named(write):
    write.file("0.png", write.png(0))
    write.file("1.png", write.png(1))
    labels = ["left", "A", True, 2, None, "false", "right"]
    rows = [
        {"prompt": f"p {n}", "image_0": "0.png", "image_1": "1.png", "label_0": v}
        for n, v in enumerate(labels)
    ]
    rows.append({"prompt": None, "chosen": "0.png", "rejected": "1.png", "image_0": "0.png"})
    _, entries = read(write.lines("t.jsonl", rows))
    assert votes(entries) == [(choice, None) for choice in ("a", "a", "a", None, "b", "b")]
    assert reasons(entries) == {3: "bad_label", 7: "no_prompt"}


def test_pictures_judged_alone_become_pairs_of_their_prompt(write, tmp_path):
    rows = [
        ("a cat", "good"),
        ("a cat", "bad"),
        ("a cat", "bad"),
        ("a dog", "good"),
        ("a dog", ""),
        ("a cow", "no"),
    ]
    for n in range(len(rows)):
        write.file(f"{n}.png", write.png(n))
    lines = [
        {"text": text, "img": f"{n}.png", "verdict": verdict} for n, (text, verdict) in enumerate(rows)
    ]
    write.lines("t.jsonl", lines)
    run = tmp_path / "run"
    report = bring(run, write.root / "t.jsonl", ONLY, columns=read_map(["image=img,label=verdict"]))
    assert (report.alone, report.judged, report.images) == (5, 0, 6)
    build_pairs(open_line(run, ONLY))
    found = [
        row for file in (run / "dataset" / "data").glob("*") for row in pq.read_table(file).to_pylist()
    ]
    good = report_bytes(write.png(0))
    assert len(found) == 2  # the good cat with each bad one; nothing is said of the dogs' order
    assert all(
        row["caption"] == "a cat" and row[f"jpg_{0 if row['label_0'] else 1}"] == good for row in found
    )


def report_bytes(data):
    """A picture as the dataset has it."""
    from rpo_cli.pictures import decode, encode_png

    return encode_png(decode(data))


def test_a_list_of_pictures_with_ranks_gives_every_pair(write):
    for n in range(3):
        write.file(f"{n}.png", write.png(n))
    rows = [{"said": "a", "files": ["0.png", "1.png", "2.png"], "order": [2, 1, 2]}]
    rows += [{"said": "b", "files": ["0.png"], "order": [1, 2]}]
    path = write.lines("t.jsonl", rows)
    _, entries = read(path, columns=read_map(["caption=said,images=files,rank=order"]))
    assert votes(entries) == [("b", None), ("tie", None), ("a", None)]
    assert reasons(entries) == {1: "bad_label"}


def test_a_soft_label_goes_with_its_pair_into_the_dataset_and_into_training(write, tmp_path):
    rows = [write.pick(2 * n, label) for n, label in enumerate((0.7, 0.2, 1.0))]
    write.parquet("data/train-0.parquet", rows)
    run = tmp_path / "run"
    bring(run, write.root, ONLY)
    build_pairs(open_line(run, ONLY))
    found = dataset(run)
    for row, share in zip(rows, (0.7, 0.8, 1.0), strict=True):
        made = found[row["caption"]]
        winner = 0 if made["label_0"] == 1 else 1
        assert (made["share_0"] if winner == 0 else 1 - made["share_0"]) == pytest.approx(share)
    from rpo_cli.train.data.pairs import read_pairs
    from rpo_cli.train.knowledge import soft_label

    pairs = {
        pair.caption: soft_label("share", pair)
        for pair in read_pairs(run / "dataset", "train", ["share_0"])
    }
    assert pairs == pytest.approx({row["caption"]: s for row, s in zip(rows, (0.7, 0.8, 1.0), strict=True)})


def test_hard_labels_leave_the_datasets_columns_as_they_were(write, tmp_path):
    write.parquet("data/train-0.parquet", [write.pick(0, 1.0), write.pick(2, 0.0)])
    bring(tmp_path / "run", write.root, ONLY)
    build_pairs(open_line(tmp_path / "run", ONLY))
    assert "share_0" not in next(iter(dataset(tmp_path / "run").values()))


def test_prompts_of_a_benchmark_are_left_out_of_an_import_and_looked_at_again(write, tmp_path):
    write.parquet("data/train-0.parquet", [write.pick(0), write.pick(2), write.pick(4)])
    (tmp_path / "bench.txt").write_text("Prompt  0\nprompt 2\n")
    whole = bring(tmp_path / "run", write.root)
    assert (whole.taken, whole.left_out) == (3, 0)
    kept = bring(tmp_path / "run", write.root, {"prompts.leave_out": (str(tmp_path / "bench.txt"),)})
    assert (kept.taken, kept.left_out, kept.withdrawn) == (1, 2, 2)


# --- a run of this tool ----------------------------------------------------------------------------------


def test_two_runs_become_one_dataset_with_their_reasons(tmp_path, write, rich_dataset):
    for number in (0, 1):
        rich_dataset(tmp_path / f"made{number}", [f"prompt {number}{n}" for n in range(3)])
    run = tmp_path / "run"
    for number in (0, 1):
        report = bring(run, tmp_path / f"made{number}", ONLY)
        assert (report.format, report.judged, report.unused) == ("rpo", 3, ())
    build_pairs(open_line(run, ONLY))
    found = dataset(run)
    assert sorted(found) == [f"prompt {number}{n}" for number in (0, 1) for n in range(3)]
    for caption, row in found.items():
        made = {**dataset_of(tmp_path / "made0"), **dataset_of(tmp_path / "made1")}[caption]
        same = made["jpg_0"] == row["jpg_0"]
        for n in (0, 1):
            m = n if same else 1 - n
            for name in ("jpg", "label", "critique", "flaws", "rewards", "model"):
                assert row[f"{name}_{n}"] == made[f"{name}_{m}"], name
        assert row["edited"] == (made["edited"] if same else 1 - made["edited"])
        for name in (
            "instruction",
            "margin",
            "agreement",
            "dispersion",
            "edit_strength",
            "tries",
            "reversed",
        ):
            assert row[name] == made[name], name
        assert (
            json.loads(row["provenance"])["imported"]["pair_id"]
            == json.loads(made["provenance"])["pair_id"]
        )


def dataset_of(folder):
    found = [pq.read_table(file).to_pylist() for file in (folder / "data").glob("*.parquet")]
    return {row["caption"]: row for rows in found for row in rows}


@pytest.fixture
def rich_dataset(write):
    """`rich_dataset(folder, prompts)` writes a dataset as `rpo build-pairs` does."""
    from rpo_cli.exchange.dataset import schema, winner_side

    def call(folder, texts):
        rows = []
        for n, text in enumerate(texts):
            best = winner_side(text)
            row = dict.fromkeys(schema(["clip"]).names)
            row |= {"caption": text, "has_label": True, "are_different": True, "pair_kind": "edit"}
            row |= {"edited": n % 2, "instruction": f"mend {n}", "margin": 1.5 + n, "agreement": 1.0}
            row |= {"dispersion": 0.25, "edit_strength": 0.1, "reversed": n == 1, "tries": n + 1}
            row["provenance"] = json.dumps({"pair_id": f"{text}-id"})
            for side in (0, 1):
                row |= {
                    f"jpg_{side}": report_bytes(write.png(hash_of(text) + side)),
                    f"label_{side}": float(side == best),
                    f"image_{side}_uid": f"{text}-{side}",
                    f"model_{side}": f"model {side}",
                    f"critique_{side}": f"seen on {side}" if side == 0 else None,
                    f"flaws_{side}": [f"colour: wrong {n}"] if side == 0 else None,
                    f"rewards_{side}": {"clip": float(side + n)},
                }
            rows.append(row)
        (folder / "data").mkdir(parents=True)
        pq.write_table(
            pa.Table.from_pylist(rows, schema=schema(["clip"])), folder / "data" / "train-0.parquet"
        )

    return call


def hash_of(text):
    return sum(text.encode()) * 7


def test_a_run_without_a_dataset_is_refused_with_what_makes_one(tmp_path, write):
    bring(tmp_path / "empty", write.parquet("data/train-0.parquet", [write.pick(0)]).parent)
    with pytest.raises(UsageError, match="a run without a dataset") as error:
        bring(tmp_path / "run", tmp_path / "empty")
    assert "rpo build-pairs" in error.value.hint
