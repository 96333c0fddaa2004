"""Layouts at their edges: nothing is guessed or dropped unsaid, and no archive or link does harm."""

import unicodedata
import zipfile
from pathlib import Path

import pytest

from rpo_cli.errors import UsageError
from rpo_cli.exchange.importers.layouts import read_map
from rpo_cli.exchange.incoming import Options
from rpo_cli.line.imports.opening import _found as detect
from rpo_cli.line.imports.run import import_source
from rpo_cli.line.session import open_line
from tests.sources import prompts, read, reasons, votes


def bring(run, source, **said):
    return import_source(open_line(run, {"run.rows_per_part": 2}), Path(source), **said)


def test_what_the_user_says_of_a_source_goes_to_an_importer_that_takes_it(write, tmp_path):
    rows = [{**write.pick(n), "choice": ["left", "right"][n]} for n in range(2)]
    path = write.parquet("p/train-0.parquet", rows).parent
    assert read(path)[0] == "pickapic"
    name, entries = read(path, columns={"winner": "choice"})
    assert (name, votes(entries)) == ("parquet", [("a", None), ("b", None)])
    with pytest.raises(UsageError, match="pickapic has no use for --map"):
        read(path, "pickapic", columns={"winner": "choice"})
    write.file("k/1.png", write.png(1))
    write.file("k/1.txt", "one")
    with pytest.raises(UsageError, match="no format fits what is there and has a use for --split"):
        read(write.root / "k", split="test")


@pytest.mark.parametrize(
    "files",
    [["train.parquet", "test.parquet"], ["train/0.parquet", "test/0.parquet"], ["data/test-0.parquet"]],
)
def test_parquet_of_a_split_is_known_by_file_or_folder(write, files):
    for name in files:
        prompt = "test" if "test" in name else "train"
        write.parquet(name, [{"prompt": prompt, "image": write.png(len(prompt))}])
    assert prompts(read(write.root, split="test")[1]) == ["test"]
    if len(files) == 2:
        assert prompts(read(write.root)[1]) == ["train"]


def test_a_split_that_an_image_folder_has_not_is_refused(write):
    for split in ("train", "test"):
        write.file(f"{split}/1.png", write.png(len(split)))
        write.file(f"{split}/metadata.csv", f"file_name,text\n1.png,{split}\n")
    assert prompts(read(write.root, split="test")[1]) == ["test"]
    with pytest.raises(UsageError, match="no folder 'val' with a table"):
        read(write.root, split="val")


def test_a_second_table_of_a_folder_is_said_and_pictures_are_known_in_any_spelling(write):
    write.file("é/1.png", write.png(1))
    write.file("2.png", write.png(2))
    rows = [
        {"file_name": unicodedata.normalize("NFD", "é/1.png"), "text": "one"},
        {"file_name": str((write.root / "2.png").resolve()), "text": "two"},
    ]
    write.lines("metadata.jsonl", rows)
    write.file("metadata.csv", "file_name,text\n2.png,other\n")
    _, source = detect(write.root, None, Options())
    assert prompts(source.read(0)) == ["one", "two"]
    assert "not read, since each folder has one table: metadata.csv" in source.note
    assert source.left() == []


def test_captions_of_a_pair_that_differ_are_rejected_and_sides_are_known_in_any_case(write):
    for stem in ("same", "other", "sub/shared"):
        write.file(f"Win/{stem}.png", write.png(len(stem)))
        write.file(f"LOSE/{stem}.png", write.png(50 + len(stem)))
    write.file("Win/same.txt", "a")
    write.file("LOSE/same.txt", "a\n")
    write.file("Win/other.txt", "a")
    write.file("LOSE/other.txt", "b")
    write.file("sub/shared.txt", "c")
    name, entries = read(write.root)
    assert (name, prompts(entries)) == ("folders", ["a", "c"])
    assert reasons(entries) == {0: "doubled_name"}


def test_links_that_lead_out_of_a_folder_are_rejects_and_linked_folders_are_counted(write, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "else.png").write_bytes(write.png(1))
    write.file("a.png", write.png(2))
    write.file("b.txt", "b")
    write.file("c.png", write.png(3))
    write.file("c.txt", "c")
    (write.root / "a.txt").symlink_to(tmp_path / "secret.txt")
    (write.root / "b.png").symlink_to(tmp_path / "else.png")
    (write.root / "d.png").symlink_to("c.png")
    write.file("d.txt", "d")
    (write.root / "folder").symlink_to(tmp_path)
    _, source = detect(write.root, None, Options())
    entries = list(source.read(0))
    assert prompts(entries) == ["c", "d"]
    assert reasons(entries) == {0: "unsafe_path", 1: "unsafe_path"}
    assert source.left() == ["1 folders that are links were left out"]


def test_a_folders_only_table_is_read(write):
    for name in ("1.png", "2.png"):
        write.file(name, write.png(int(name[0])))
    write.file("pairs.csv", "prompt,chosen,rejected\np,1.png,2.png\n")
    assert read(write.root)[0] == "table"


class Named(zipfile.ZipInfo):
    """A member whose name has the bytes that some other program writes."""

    def __init__(self, name, encoding):
        super().__init__("x")
        self.filename, self.encoding = name, encoding

    def _encodeFilenameFlags(self):
        return self.filename.encode(self.encoding), 0


def zipped(path, members, encoding="utf-8"):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(Named(name, encoding), data)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "cp437"])
def test_names_in_a_zip_of_macos_and_of_windows_are_read(write, tmp_path, encoding):
    table = "file_name,text\nsub/é ü.png,one\n".encode()
    members = [
        ("d\\", b""),
        ("d\\sub\\", b""),
        ("d\\metadata.csv", table),
        ("d\\sub\\é ü.png", write.png(1)),
    ]
    found = bring(tmp_path / "run", zipped(tmp_path / "a.zip", members, encoding))
    assert (found.taken, found.rejected, found.rows) == (1, 0, 1)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_cannot_stand_here_or_replace_others_are_counted(write, tmp_path):
    members = [
        ("1.png", write.png(1)),
        ("1.txt", b"first"),
        ("1.txt", b"last"),
        ("1.txt/x.png", write.png(2)),
        ("写" * 100 + ".png", write.png(3)),
    ]
    found = bring(tmp_path / "run", zipped(tmp_path / "a.zip", members))
    assert found.taken == 1
    told = " ".join(found.notes)
    assert "1 files replaced others of their name" in told
    assert "2 files whose names no file can have here were left out" in told


def test_an_archive_that_unpacks_to_too_much_is_refused_and_leaves_nothing(write, tmp_path, monkeypatch):
    monkeypatch.setattr("rpo_cli.exchange.unpack.ALWAYS", 2**20)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"{number}.bin", bytes(2**20))
    left = tmp_path / "run" / "cache" / ".unpacked-killed"
    left.mkdir(parents=True)
    with pytest.raises(UsageError, match=r"a\.zip: unpacks to more than"):
        bring(tmp_path / "run", path)
    assert list((tmp_path / "run" / "cache").iterdir()) == []


def test_an_error_in_an_archive_names_the_archive(tmp_path):
    path = zipped(tmp_path / "a.zip", [("readme.md", b"x")])
    with pytest.raises(UsageError) as error:
        bring(tmp_path / "run", path)
    assert error.value.message == f"{path}: no format fits what is there"


def pairs_of(write, column, values, **options):
    rows = []
    for number, value in enumerate(values):
        for side in "ab":
            write.file(f"{number}{side}.png", write.png(2 * number + (side == "b")))
        rows.append(
            {
                "prompt": f"p{number}",
                "x": f"{number}a.png",
                "y": f"{number}b.png",
                **dict(zip(column, value, strict=True)),
            }
        )
    write.lines("t.jsonl", rows)
    return read(write.root / "t.jsonl", columns={"a": "x", "b": "y", **options})[1]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["image_1", "image_2"], [("a", None), ("b", None)]),
        (["Image 0", "image 1"], [("a", None), ("b", None)]),
        (
            ["Model A", "model-b", "b is better", "tie"],
            [("a", None), ("b", None), ("b", None), ("tie", None)],
        ),
        (["left image", "the right one", "both bad"], [("a", None), ("b", None), ("tie", None)]),
        (["70%", "100 %", "0%", "50%"], [("a", 0.7), ("a", None), ("b", None), ("tie", None)]),
    ],
)
def test_a_winner_is_understood_by_word_number_or_percent(write, values, said):
    assert votes(pairs_of(write, ["w"], [[value] for value in values], winner="w")) == said


def test_a_name_with_a_number_that_could_count_from_either_is_refused(write):
    with pytest.raises(UsageError, match="does not say which picture is better"):
        pairs_of(write, ["w"], [["image_1"], ["image_1"]], winner="w")


def test_counts_of_votes_are_a_share(write):
    found = pairs_of(write, ["m", "n"], [[7, 3], ["0", "5"], [2, 2], [1, 0]], label_0="m", label_1="n")
    assert votes(found) == [("a", 0.7), ("b", None), ("tie", None), ("a", None)]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"image": "x"}, "image=x: no role beside x and y"),
        ({"label": "w"}, "label=w: no role beside"),
        ({"winner": "w", "share": "w"}, "winner, share say which picture is better"),
        ({"b": "x"}, "both pictures are column 'x'"),
    ],
)
def test_a_role_that_would_go_unused_is_refused(write, columns, said):
    with pytest.raises(UsageError, match=said):
        pairs_of(write, ["w"], [["left"]], **{"winner": "w", **columns})


def test_a_column_of_a_map_may_hold_commas():
    assert read_map(["caption=Which, one?,a=x,winner=a, b or c"]) == {
        "caption": "Which, one?",
        "a": "x",
        "winner": "a, b or c",
    }


def test_folders_of_winners_beside_a_table_are_said_to_say_nothing(write):
    for side in ("win", "lose"):
        write.file(f"{side}/0.png", write.png(len(side)))
        write.file(f"{side}/0.txt", "a cat")
    write.file("metadata.csv", "file_name,prompt\nwin/0.png,a cat\nlose/0.png,a cat\n")
    name, source = detect(write.root, None, Options())
    assert (name, len(prompts(list(source.read(0))))) == ("imagefolder", 2)
    assert "win/ and lose/ say nothing here, since metadata.csv" in source.note
    assert votes(read(write.root, "folders")[1]) == [("a", None)]
