"""Every format of other people's data, read from files laid out as their publishers lay them out."""

import io
import json
import os
import zipfile

import pyarrow.parquet as pq
import pytest

from rpo_cli import registry
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.exchange.importers.labels import shares
from rpo_cli.exchange.importers.richhf import words
from rpo_cli.exchange.incoming import Bad, Entry, Options, inside
from rpo_cli.exchange.raw_rows import BadRow, json_items
from rpo_cli.line.imports.opening import _found as detect


def read(path, format=None, start=0, **options):
    """Format found, and every entry from `start` on."""
    name, source = detect(path, format, Options(asked=format is not None, **options))
    return name, list(source.read(start))


def votes(entry):
    return [(vote.a, vote.b, vote.choice) for vote in entry.votes]


def reasons(entries):
    return {entry.row: entry.reason for entry in entries if isinstance(entry, Bad)}


# --- Pick-a-Pic ----------------------------------------------------------------------------------------


def test_pick_a_pic_keeps_bytes_labels_ties_and_names(write):
    rows = [write.pick(0, 1.0), write.pick(1, 0.0), write.pick(2, 0.5), write.pick(3, None)]
    write.parquet("data/train-00000-of-00002-aa.parquet", rows[:2])
    write.parquet("data/train-00001-of-00002-bb.parquet", rows[2:])
    name, entries = read(write.root)
    assert name == "pickapic"
    assert [votes(entry)[0][2] for entry in entries] == ["a", "b", "tie", None]
    assert [entry.row for entry in entries] == [0, 1, 2, 3]
    for entry, row in zip(entries, rows, strict=True):
        assert [picture.data for picture in entry.pictures] == [row["jpg_0"], row["jpg_1"]]
        assert [picture.source_id for picture in entry.pictures] == [row["image_0_uid"], row["image_1_uid"]]
        assert [picture.model for picture in entry.pictures] == ["sd15", "sdxl"]
        assert entry.votes[0].source_id == str(row["ranking_id"])


def test_reading_from_a_row_on_gives_what_reading_all_gives(write):
    write.parquet("data/a.parquet", [write.pick(n) for n in range(5)], row_group_size=2)
    write.parquet("data/b.parquet", [write.pick(n) for n in range(5, 8)], row_group_size=2)
    whole = read(write.root)[1]
    for start in range(9):
        assert read(write.root, start=start)[1] == whole[start:]


def test_only_the_train_split_is_read_unless_another_is_asked_for(write):
    write.parquet("data/train-00000-of-00001.parquet", [write.pick(0)])
    write.parquet("data/test-00000-of-00001.parquet", [write.pick(1), write.pick(2)])
    assert len(read(write.root)[1]) == 1
    assert len(read(write.root, split="test")[1]) == 2
    with pytest.raises(UsageError, match="no Parquet file of split 'dev'"):
        read(write.root, split="dev")


def test_bad_rows_are_told_with_their_number_and_reason_and_the_rest_is_read(write):
    rows = [
        write.pick(0),
        write.pick(1, caption=""),
        write.pick(2, caption="x" * 10_001),
        write.pick(3, jpg_1=None),
        write.pick(4, label_0=3.0, label_1=0.0, has_label=True),
        write.pick(5),
    ]
    write.parquet("train-0.parquet", rows)
    entries = read(write.root)[1]
    assert reasons(entries) == {1: "no_prompt", 2: "long_prompt", 3: "missing_image", 4: "bad_label"}
    assert [entry.row for entry in entries if isinstance(entry, Entry)] == [0, 5]


def test_missing_columns_are_named_before_anything_is_read(write):
    write.parquet("train-0.parquet", [{"caption": "a", "jpg_0": b"x"}])
    with pytest.raises(UsageError, match=r"no column jpg_1, label_0; it has: caption, jpg_0"):
        read(write.root, "pickapic")


def test_a_parquet_file_that_breaks_off_is_an_error_that_names_it(write):
    path = write.parquet("train-0.parquet", [write.pick(n) for n in range(4)])
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UsageError, match="no readable Parquet file"):
        read(path)


# --- tables with Image columns -------------------------------------------------------------------------


def image(data):
    return {"bytes": data, "path": None}


def test_open_image_preferences_is_known_by_its_card_and_is_judged_by_people(write):
    rows = [
        {"prompt": f"p{n}", "chosen": image(write.png(n)), "rejected": image(write.png(-n % 99))}
        for n in (1, 2)
    ]
    write.parquet("data/train-0.parquet", rows)
    assert detect(write.root, None, Options())[1].judged_by == "source"
    write.file("README.md", "---\nlicense: apache-2.0\n---\n# open-image-preferences-v1-binarized\n")
    name, source = detect(write.root, None, Options())
    entries = list(source.read(0))
    assert (name, source.judged_by, source.license) == ("open-image-preferences", "human", "apache-2.0")
    assert [votes(entry) for entry in entries] == [[(0, 1, "a")], [(0, 1, "a")]]
    assert entries[0].pictures[0].data == rows[0]["chosen"]["bytes"]


def test_any_table_with_an_image_column_and_a_prompt_is_read(write):
    write.parquet("a.parquet", [{"text": "p", "image": image(write.png(0))}])
    name, (entry,) = read(write.root)
    assert (name, entry.prompt, len(entry.pictures), entry.votes) == ("parquet", "p", 1, ())


# --- rankings ------------------------------------------------------------------------------------------


def test_hpdv2_train_and_test_have_their_own_shapes(write):
    for n in range(3):
        write.file(f"train/{n}.jpg", write.png(n))
        write.file(f"test/{n}.jpg", write.png(10 + n))
    train = [
        {"prompt": "p", "file_path": ["0.jpg", "1.jpg"], "human_preference": [0, 1]},
        {"prompt": "p", "file_path": ["0.jpg", "9.jpg"], "human_preference": [1, 0]},
        {"prompt": "p", "file_path": ["0.jpg", "1.jpg"], "human_preference": [1]},
    ]
    test = [{"prompt": "q", "image_path": ["0.jpg", "1.jpg", "2.jpg"], "rank": [2, 1, 2]}]
    write.file("train.json", json.dumps(train, indent=1))
    write.file("test.json", json.dumps(test))
    name, entries = read(write.root)
    assert (name, votes(entries[0])) == ("hpdv2", [(0, 1, "b")])
    assert reasons(entries) == {1: "missing_image", 2: "bad_label"}
    (entry,) = read(write.root, split="test")[1]
    assert votes(entry) == [(0, 1, "b"), (0, 2, "tie"), (1, 2, "a")]
    assert entry.pictures[1].data == write.png(11)


def test_a_json_array_is_read_item_by_item_whatever_the_pieces(write, monkeypatch):
    items = [{"n": n, "text": "x" * (n % 7) + '[{"\\u00e9'} for n in range(50)]
    path = write.file("a.json", json.dumps(items, indent=2))
    for piece in (1, 7, 1000):
        monkeypatch.setattr("rpo_cli.exchange.raw_rows.PIECE", piece)
        assert list(json_items(path)) == list(enumerate(items))
    path.write_text(json.dumps(items)[:-10])
    with pytest.raises(UsageError, match="breaks off in item 49"):
        list(json_items(path))


@pytest.mark.parametrize("zipped", [False, True])
def test_imagerewarddb_gives_all_pairs_of_a_ranking_from_folders_and_zips(write, zipped):
    names = [f"images/train/train_1/{n}.webp" for n in range(3)]
    rows = [
        {"image_path": name, "prompt_id": "1-1", "prompt": "p", "rank": rank, "overall_rating": 5}
        for name, rank in zip(names, (1, 2, 1), strict=True)
    ]
    rows.append({**rows[0], "image_path": "images/train/train_1/lost.webp", "prompt_id": "1-2"})
    write.parquet("metadata-train.parquet", rows)
    if zipped:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for n in range(3):
                archive.writestr(f"train_1/{n}.webp", write.png(n))
        write.file("images/train/train_1.zip", buffer.getvalue())
    else:
        for n, name in enumerate(names):
            write.file(name, write.png(n))
    name, entries = read(write.root)
    assert (name, votes(entries[0])) == ("imagereward", [(0, 1, "a"), (0, 2, "tie"), (1, 2, "b")])
    assert [picture.data for picture in entries[0].pictures] == [write.png(n) for n in range(3)]
    assert reasons(entries) == {1: "missing_image"}


# --- RichHF --------------------------------------------------------------------------------------------


def test_words_are_split_at_the_characters_of_richhf_not_at_spaces():
    prompt = 'a cat, "two" dogs: at night!  well-lit'
    assert words(prompt) == ["a", "cat", "two", "dogs", "at", "night", "well-lit"]


def heat_map(write):
    """Artefacts marked in the upper right corner."""
    import numpy as np
    from PIL import Image

    values = np.zeros((90, 90), dtype=np.uint8)
    values[:30, 60:] = 200
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="PNG")
    return buffer.getvalue()


def test_richhf_becomes_critiques_with_zero_meaning_misaligned(write):
    labels = [
        write.label("one", "1 0 0 1", artifact=0.25, heat=heat_map(write)),
        write.label("two", "1 1"),
        write.label("three", "1 1 1"),
        write.label("four", "1"),
    ]
    write.tfrecord("train.tfrecord", labels)
    for name, prompt in {"one": "a red, cat sits", "two": "a dog", "three": "a dog"}.items():
        write.file(f"images/{name}.png", write.png(len(prompt)))
        write.file(f"images/{name}.txt", prompt)
    name, entries = read(write.root, images=write.root / "images")
    said = entries[0].pictures[0].feedback
    assert name == "richhf"
    assert [(flaw.aspect, flaw.detail) for flaw in said.flaws] == [
        ("alignment", "does not match 'red cat'"),
        ("artefacts", "upper right, 11 % of the picture"),
    ]
    assert "artifact 0.25" in said.text
    assert "higher is better" in said.text
    assert entries[1].pictures[0].feedback.flaws == ()
    assert "Every word of the prompt is matched" in entries[1].pictures[0].feedback.text
    assert reasons(entries) == {2: "bad_label", 3: "missing_image"}
    assert "record 2: 3 labels, the prompt has 2 words" in entries[2].detail


def test_richhf_finds_its_pictures_in_pick_a_pic_by_uid(write):
    write.tfrecord("train.tfrecord", [write.label(name, "1 0") for name in ("uid-3-1", "lost", "uid-0-0")])
    pictures = write.root / "pickapic"
    write.parquet("pickapic/train-0.parquet", [write.pick(n) for n in range(5)])
    entries = read(write.root, "richhf", images=pictures)[1]
    assert [entry.pictures[0].source_id for entry in entries[:2]] == ["uid-0-0", "uid-3-1"]
    assert [entry.pictures[0].data for entry in entries[:2]] == [
        write.pick(0)["jpg_0"],
        write.pick(3)["jpg_1"],
    ]
    assert entries[1].pictures[0].feedback.flaws[0].detail == "does not match '1'"
    assert reasons(entries) == {2: "missing_image"}
    for start in range(4):
        assert read(write.root, "richhf", start=start, images=pictures)[1] == entries[start:]


def test_richhf_without_pictures_says_where_they_are(write):
    write.tfrecord("train.tfrecord", [write.label("one", "1")])
    with pytest.raises(UsageError) as caught:
        read(write.root)
    assert "--images" in caught.value.hint


# --- folders and lines ---------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["metadata.jsonl", "metadata.csv"])
def test_an_image_folder_has_pictures_or_pairs(write, table):
    write.file("a/1.png", write.png(1))
    write.file("a/2.png", write.png(2))
    rows = {
        "single": ("file_name,text\na/1.png,p\na/2.png,\nno.png,p\n", 3),
        "pairs": ("chosen_file_name,rejected_file_name,prompt\na/1.png,a/2.png,p\n", 1),
    }
    for kind, (text, count) in rows.items():
        if table.endswith(".csv"):
            write.file(table, text)
        else:
            head, *body = [line.split(",") for line in text.splitlines()]
            write.lines(table, [dict(zip(head, line, strict=True)) for line in body])
        name, entries = read(write.root)
        assert (name, len(entries)) == ("imagefolder", count)
        if kind == "single":
            assert entries[0].pictures[0].data == write.png(1)
            assert list(reasons(entries)) == [1, 2]
            assert reasons(entries)[2] == "missing_image"
        else:
            assert votes(entries[0]) == [(0, 1, "a")]


def test_json_lines_may_be_pairs_with_labels_and_a_broken_line_is_one_reject(write):
    write.file("1.png", write.png(1))
    write.file("2.png", write.png(2))
    path = write.lines(
        "pairs.jsonl",
        [
            {"prompt": "p", "image_0": "1.png", "image_1": "2.png", "label_0": label}
            for label in (1, 0, 0.5)
        ],
    )
    path.write_text(path.read_text() + "{broken\n[1]\n")
    name, entries = read(path)
    assert name == "jsonl"
    assert [votes(entry)[0][2] for entry in entries[:3]] == ["a", "b", "tie"]
    assert reasons(entries) == {3: "bad_json", 4: "bad_json"}


def test_lines_without_a_prompt_or_picture_are_refused_with_what_they_have(write):
    path = write.lines("a.jsonl", [{"prompt": "p", "url": "http://example.com"}])
    with pytest.raises(UsageError, match=r"no column picture .*it has: prompt, url"):
        read(path)


def test_two_folders_pair_by_name(write):
    for name, seed in {
        "win/a.png": 1,
        "lose/a.jpg": 2,
        "win/b.png": 3,
        "win/c.png": 4,
        "lose/c.png": 5,
    }.items():
        write.file(name, write.png(seed))
    write.file("win/a.txt", "p\n")
    name, entries = read(write.root)
    assert name == "folders"
    assert [picture.data for picture in entries[0].pictures] == [write.png(1), write.png(2)]
    assert (entries[0].prompt, votes(entries[0])) == ("p", [(0, 1, "a")])
    assert reasons(entries) == {1: "missing_image", 2: "no_prompt"}


# --- WebDataset ----------------------------------------------------------------------------------------


def sample(write, key, label, **more):
    return [
        (f"{key}.jpg_0.jpg", write.png(1)),
        (f"{key}.jpg_1.jpg", write.png(2)),
        (f"{key}.label_0.txt", str(label).encode()),
        (f"{key}.original_prompt.txt", b"p"),
        *more.items(),
    ]


def test_webdataset_members_of_one_key_are_a_row_and_nothing_is_unpickled(write):
    members = [*sample(write, "d/000", 1), ("d/000.extra.pickle", b"\x80\x04."), *sample(write, "d/001", 0)]
    write.tar("a.tar", members)
    write.tar("b.tar", [("000.jpg", write.png(3)), ("000.txt", b"q"), ("001.jpg", write.png(4))])
    name, entries = read(write.root)
    assert name == "webdataset"
    assert [votes(entry) for entry in entries[:2]] == [[(0, 1, "a")], [(0, 1, "b")]]
    assert (entries[2].prompt, entries[2].pictures[0].data) == ("q", write.png(3))
    assert reasons(entries) == {3: "missing_column"}
    assert read(write.root, start=1)[1] == entries[1:]


def test_a_tar_that_breaks_off_keeps_what_came_before(write):
    path = write.tar("a.tar", [*sample(write, "0", 1), ("1.jpg", os.urandom(5000)), ("1.txt", b"q")])
    path.write_bytes(path.read_bytes()[:6000])
    source = detect(path, None, Options())[1].read(0)
    assert next(source).prompt == "p"
    with pytest.raises(RpoError, match="breaks off"):
        list(source)


# --- safety --------------------------------------------------------------------------------------------

OUTSIDE = [
    "../secret.png",
    "a/../../secret.png",
    "/etc/hostname",
    "C:\\secret.png",
    "\\\\host\\share\\a.png",
    "..\\secret.png",
    "link.png",
    "folder/secret.png",
    "a\0.png",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_path_in_data_leaves_the_folder_of_the_source(write, name):
    secret = write.file("../secret.png", write.png(0))
    write.file("inside.png", write.png(1))
    (write.root / "link.png").symlink_to(secret)
    (write.root / "folder").symlink_to(write.root.parent)
    with pytest.raises(BadRow) as caught:
        inside(write.root, name)
    assert caught.value.reason == "unsafe_path"
    write.lines(
        "metadata.jsonl", [{"file_name": name, "prompt": "p"}, {"file_name": "inside.png", "prompt": "p"}]
    )
    entries = read(write.root)[1]
    assert reasons(entries) == {0: "unsafe_path"}


@pytest.mark.parametrize("name", ["", None, 3, "x" * 5000, "folder", "fifo"])
def test_what_is_no_regular_file_is_missing(write, name):
    write.file("folder/x", b"")
    os.mkfifo(write.root / "fifo")
    with pytest.raises(BadRow) as caught:
        inside(write.root, name)
    assert caught.value.reason == "missing_image"


def test_a_picture_of_too_many_bytes_is_not_read(write, monkeypatch):
    monkeypatch.setattr("rpo_cli.exchange.incoming.MAX_BYTES", 100)
    write.file("big.png", write.png(0, side=32))
    write.lines("metadata.jsonl", [{"file_name": "big.png", "prompt": "p"}])
    assert reasons(read(write.root)[1]) == {0: "too_large"}


@pytest.mark.parametrize(
    ("labels", "choice"),
    [
        ((1, 0), "a"),
        ((0.0, 1.0), "b"),
        (("1", "0"), "a"),
        ((0.5, 0.5), "tie"),
        ((0, None), "b"),
        ((None, 0), "a"),
        ((None, None), None),
        ((float("nan"), None), None),
    ],
)
def test_labels_are_wins_losses_and_ties(labels, choice):
    assert shares(*labels) == (choice, None)


@pytest.mark.parametrize("label", ["yes", 2, -0.1, [1]])
def test_a_label_that_is_no_share_is_a_bad_row(label):
    with pytest.raises(BadRow):
        shares(label)


@pytest.mark.parametrize("name", registry.importers)
def test_every_format_says_what_it_misses_in_a_folder_of_others(write, name):
    write.file("notes.md", "nothing here")
    with pytest.raises(UsageError) as caught:
        read(write.root, name)
    assert "no" in caught.value.message


def test_a_folder_of_no_known_format_is_refused_with_the_names_of_formats(write):
    write.file("notes.md", "nothing here")
    with pytest.raises(UsageError) as caught:
        read(write.root)
    assert "pickapic" in caught.value.hint


def test_a_large_row_group_is_read_in_small_batches(write, monkeypatch):
    """However large a publisher's row groups are, few rows are in memory at once."""
    sizes = []
    write.parquet("train-0.parquet", [write.pick(n) for n in range(100)], row_group_size=100)

    class Watched(pq.ParquetFile):
        def iter_batches(self, *arguments, **options):
            for batch in super().iter_batches(*arguments, **options):
                sizes.append(batch.num_rows)
                yield batch

    monkeypatch.setattr("rpo_cli.exchange.importers.parquet.pq.ParquetFile", Watched)
    assert len(read(write.root)[1]) == 100
    assert max(sizes) <= 16
