"""`rpo import`: other people's rows in a run, resumable, and the line run on them."""

import json
import multiprocessing
import os
import random
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image as Picture

from rpo_cli import open_line, registry
from rpo_cli.errors import UsageError
from rpo_cli.files import TEMPORARY
from rpo_cli.line.dataset.inputs import build_pairs
from rpo_cli.line.imports.run import import_source
from rpo_cli.line.merge import merge
from rpo_cli.line.status import prune, status
from rpo_cli.pictures import encode_png
from rpo_cli.records import Critique, Image

ONLY = {"pairs.strategy": "imported", "score.rewards": (), "pairs.val_fraction": 0.0}
TABLES = ("prompts", "images", "critiques", "preferences", "rejects")


def bring(run, source, options=None, **said):
    line = open_line(run, {"run.rows_per_part": 2, **(options or {})})
    return import_source(line, Path(source), **said)


def tree(run, *names):
    files = [file for name in names for file in (Path(run) / name).rglob("*") if file.is_file()]
    files = [
        file for file in files if not file.name.startswith(TEMPORARY)
    ]  # a killed write: nobody reads it
    return {file.relative_to(run).as_posix(): file.read_bytes() for file in files}


def rows(run, table):
    return [
        row
        for file in sorted((Path(run) / table).rglob("*.parquet"))
        for row in pq.read_table(file).to_pylist()
    ]


def dataset(run):
    return [
        row
        for file in (Path(run) / "dataset" / "data").glob("*.parquet")
        for row in pq.read_table(file).to_pylist()
    ]


@pytest.fixture
def picks(write):
    """Pick-a-Pic with wins of both sides, a tie, an unanswered row, a broken picture and a repeated row."""
    rows = [
        write.pick(0, 1.0),
        write.pick(1, 0.0),
        write.pick(2, 0.5),
        write.pick(3, None),
        write.pick(4, 1.0, jpg_0=b"\xff\xd8 no picture"),
        write.pick(5, 0.0),
        write.pick(0, 1.0),
    ]
    write.parquet("data/train-0.parquet", rows)
    write.file("README.md", "---\nlicense: cc-by-nc-4.0\n---\n")
    return write.root


def test_pictures_keep_their_bytes_and_pairs_their_labels(tmp_path, picks, write):
    report = bring(tmp_path / "run", picks)
    images = {row["image_id"]: row for row in rows(tmp_path / "run", "images")}
    assert (report.images, report.judged, report.ties, report.unanswered) == (10, 3, 1, 1)
    assert (report.rejects, report.license) == ({"corrupt_image": 1}, "cc-by-nc-4.0")
    assert {row["image"]["bytes"] for row in images.values()} == {
        write.pick(n)[f"jpg_{side}"] for n in (0, 1, 2, 3, 5) for side in (0, 1)
    }
    assert {row["kind"] for row in images.values()} == {"import"}
    choices = {row["row"]: row["choice"] for row in rows(tmp_path / "run", "preferences")}
    assert choices == {0: "a", 1: "b", 2: "tie", 3: None, 5: "b"}
    (reject,) = rows(tmp_path / "run", "rejects")
    assert (reject["stage"], reject["input_id"], reject["reason"]) == ("import", "row 4", "corrupt_image")


def test_imported_pairs_become_a_dataset_without_ties_and_without_any_model(tmp_path, picks, write):
    bring(tmp_path / "run", picks)
    report = build_pairs(open_line(tmp_path / "run", ONLY))
    found = {row["caption"] + row["image_0_uid"]: row for row in dataset(tmp_path / "run")}
    assert (report.accepted, report.dropped) == (3, {"tie": 1, "unlabelled": 1})
    images = {row["image_id"]: row for row in rows(tmp_path / "run", "images")}
    for row in found.values():
        best = images[row["best_image_uid"]]
        other = images[row["image_1_uid" if row["label_0"] else "image_0_uid"]]
        # the winner of row 0 is its first picture, those of rows 1 and 5 their second
        assert best["source_id"] in {"uid-0-0", "uid-1-1", "uid-5-1"}
        assert best["source_id"][:-1] == other["source_id"][:-1]
        assert (row["pair_kind"], row["human_label"]) == ("human", "0" if row["label_0"] else "1")
        assert row["model_0"] == (
            "sd15" if images[row["image_0_uid"]]["source_id"].endswith("0") else "sdxl"
        )
        # both sides pass one decode and encode: no JPEG beside a PNG
        assert row["jpg_0"][:4] == row["jpg_1"][:4] == b"\x89PNG"
    card = (tmp_path / "run" / "dataset" / "README.md").read_text()
    assert "## Imported data" in card
    assert "`cc-by-nc-4.0`" in card
    assert "| human | `tie` |" in card


def test_a_second_import_reads_on_and_writes_nothing_new(tmp_path, picks):
    first = bring(tmp_path / "run", picks)
    before = tree(tmp_path / "run", *TABLES)
    again = bring(tmp_path / "run", picks)
    assert tree(tmp_path / "run", *TABLES) == before
    assert (again.images, again.judged, again.rejected) == (first.images, first.judged, first.rejected)
    assert again.rows < first.rows


def test_the_first_rows_and_then_all_is_all_at_once(tmp_path, picks):
    bring(tmp_path / "whole", picks)
    bring(tmp_path / "parts", picks, limit=2)
    assert len(rows(tmp_path / "parts", "preferences")) == 2
    bring(tmp_path / "parts", picks)
    assert tree(tmp_path / "parts", *TABLES) == tree(tmp_path / "whole", *TABLES)


def test_the_same_rows_from_another_file_come_in_once(tmp_path, picks, write):
    bring(tmp_path / "run", picks)
    more = write.parquet("more/train-0.parquet", [write.pick(1, 0.0), write.pick(8, 1.0)])
    bring(tmp_path / "run", more.parent)
    assert (
        len({row["image_id"] for row in rows(tmp_path / "run", "images")})
        == len(rows(tmp_path / "run", "images"))
        == 12
    )
    assert sorted(row["row"] for row in rows(tmp_path / "run", "preferences")) == [0, 1, 1, 2, 3, 5]


def test_votes_of_several_people_are_counted_and_even_ones_are_a_tie(tmp_path, write):
    same = {"caption": "p", "jpg_0": write.png(1), "jpg_1": write.png(2)}
    swapped = {"caption": "p", "jpg_0": write.png(2), "jpg_1": write.png(1)}
    other = {"caption": "q", "jpg_0": write.png(3), "jpg_1": write.png(4)}
    votes = [
        write.pick(0, 1.0, **same), write.pick(1, 0.0, **swapped), write.pick(2, 0.0, **same),
        write.pick(3, 1.0, **other), write.pick(4, 0.0, **other),
    ]  # fmt: skip
    write.parquet("train-0.parquet", votes)
    bring(tmp_path / "run", write.root)
    report = build_pairs(open_line(tmp_path / "run", ONLY))
    assert (report.candidates, report.accepted, report.dropped) == (2, 1, {"tie": 1})
    images = {row["image_id"]: row["image"]["bytes"] for row in rows(tmp_path / "run", "images")}
    assert images[dataset(tmp_path / "run")[0]["best_image_uid"]] == write.png(1)


def test_pairs_of_unknown_judges_are_of_kind_import(tmp_path, write):
    write.file("1.png", write.png(1))
    write.file("2.png", write.png(2))
    write.lines("pairs.jsonl", [{"prompt": "p", "chosen": "2.png", "rejected": "1.png"}])
    bring(tmp_path / "run", write.root)
    build_pairs(open_line(tmp_path / "run", ONLY))
    (row,) = dataset(tmp_path / "run")
    assert (row["pair_kind"], row["human_label"]) == ("import", None)


def test_richhf_feedback_is_a_critique_of_its_picture(tmp_path, write):
    write.tfrecord("train.tfrecord", [write.label("one", "1 0")])
    write.file("images/one.png", write.png(1))
    write.file("images/one.txt", "a cat")
    report = bring(tmp_path / "run", write.root, images=write.root / "images")
    store = open_line(tmp_path / "run").store
    (critique,) = store.fetch("critiques", store.keys("critiques"))
    (image,) = store.fetch("images", store.keys("images"))
    assert isinstance(critique, Critique)
    assert isinstance(image, Image)
    assert (report.critiques, critique.image_sha256) == (1, image.sha256)
    assert [flaw.detail for flaw in critique.flaws] == ["does not match 'cat'"]


def test_imported_feedback_is_what_the_critic_is_asked_to_turn_into_instructions(tmp_path, write):
    from rpo_cli.line.work.critique import critique_work

    write.tfrecord("train.tfrecord", [write.label("one", "1 0")])
    write.file("images/one.png", write.png(1))
    write.file("images/one.txt", "a cat")
    bring(tmp_path / "run", write.root, images=write.root / "images")
    (two,) = critique_work(open_line(tmp_path / "run", preset="shapes")).tasks()
    (one,) = critique_work(
        open_line(tmp_path / "run", {"critique.single_turn": True}, preset="shapes")
    ).tasks()
    assert "Not matched: cat." in two.payload.said
    assert one.payload.said is None


def test_a_picture_of_too_many_pixels_is_one_rejected_row(tmp_path, write):
    """A decompression bomb: a few bytes that claim to be 100,000 pixels wide and high."""
    size = struct.pack(">II5B", 100_000, 100_000, 8, 2, 0, 0, 0)
    head = b"IHDR" + size
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    write.file("bomb.png", bomb + write.png(0)[33:])
    write.file("fine.png", write.png(1))
    write.lines("metadata.jsonl", [{"file_name": name, "prompt": "p"} for name in ("bomb.png", "fine.png")])
    report = bring(tmp_path / "run", write.root)
    assert (report.images, report.rejects) == (1, {"corrupt_image": 1})


def test_status_and_prune_keep_what_was_imported(tmp_path, picks):
    bring(tmp_path / "run", picks)
    before = tree(tmp_path / "run", *TABLES)
    stage = next(stage for stage in status(tmp_path / "run").stages if stage.stage == "import")
    assert (stage.present, stage.rejected, stage.rejects) == (10, 1, {"corrupt_image": 1})
    generated = next(stage for stage in status(tmp_path / "run").stages if stage.stage == "generate")
    assert (generated.wanted, generated.stale) == (0, 0)
    prune(tmp_path / "run")
    assert tree(tmp_path / "run", *TABLES) == before


def test_a_merged_run_has_the_imports_of_its_shards(tmp_path, picks, write):
    bring(tmp_path / "one", picks)
    more = write.parquet("more/train-0.parquet", [write.pick(8, 1.0)])
    bring(tmp_path / "two", more.parent)
    merge(tmp_path / "both", [tmp_path / "one", tmp_path / "two"])
    assert build_pairs(open_line(tmp_path / "both", ONLY)).accepted == 4


def test_a_source_that_is_not_there_is_told_before_a_run_is_made(tmp_path):
    with pytest.raises(UsageError, match="no such file or folder"):
        bring(tmp_path / "run", tmp_path / "nowhere")
    assert not (tmp_path / "run" / "run.json").exists()


PEAK = """
import sys
from rpo_cli import open_line, registry
from rpo_cli.line.imports.run import import_source
from pathlib import Path
import_source(open_line(sys.argv[1], {"run.rows_per_part": 16}), Path(sys.argv[2]))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak(run, source):
    """Peak memory in MB of a process that imports `source`."""
    command = [sys.executable, "-c", PEAK, str(run), str(source)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1000


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_source(tmp_path, write):
    """Ten files against three: 8 MB of pictures each, read part by part, joined by row group."""
    picture = write.png(0, side=160)
    for number in range(10):
        rows = [
            write.pick(n, caption=f"{number} {n}", jpg_0=picture + bytes([n, number]), jpg_1=picture)
            for n in range(100)
        ]
        write.parquet(f"data/{number}.parquet", rows, row_group_size=100)
    assert sum(f.stat().st_size for f in write.root.rglob("*.parquet")) > 70e6
    (tmp_path / "few").mkdir()
    for number in range(3):
        (tmp_path / "few" / f"{number}.parquet").hardlink_to(write.root / "data" / f"{number}.parquet")
    three = peak(tmp_path / "three", tmp_path / "few")
    ten = peak(tmp_path / "ten", write.root)
    assert ten - three < 40


def importer(run, source):
    bring(run, source)


@pytest.mark.slow
def test_an_import_killed_at_any_moment_ends_with_the_same_bytes(tmp_path, write):
    for number in range(3):
        write.parquet(
            f"data/train-{number}.parquet", [write.pick(10 * number + n, n % 2) for n in range(10)], 3
        )
    bring(tmp_path / "warm", write.root)
    began = time.monotonic()
    bring(tmp_path / "whole", write.root)
    whole = time.monotonic() - began
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rpo_cli.line.imports.run"])
    kills = 0
    for share in (0.1, 0.3, 0.6, 0.9, 1.2, 1.8, 3.0, 6.0, None):
        process = context.Process(target=importer, args=(str(tmp_path / "run"), str(write.root)))
        process.start()
        if share is None:
            process.join()
            break
        time.sleep(share * whole)
        kills += process.exitcode is None
        os.kill(process.pid, signal.SIGKILL) if process.exitcode is None else None
        process.join()
    assert kills >= 3
    assert tree(tmp_path / "run", *TABLES) == tree(tmp_path / "whole", *TABLES)


@pytest.mark.slow
def test_the_line_runs_on_imported_pairs_critiques_and_edits_both_sides_and_relabels(tmp_path, write):
    """The paper's setting, with the embedded models: the pairs come from elsewhere."""
    from rpo_cli import run
    from rpo_cli.pictures import encode_png
    from rpo_cli.shapes.grammar import parse_caption
    from rpo_cli.shapes.prompts import prompts
    from rpo_cli.shapes.render import render

    asked = prompts("train", 4, 0)
    for n, (prompt, other) in enumerate(zip(asked[:2], asked[2:], strict=True)):
        write.file(f"win/{n}.png", encode_png(render(parse_caption(prompt), random.Random(n))))
        write.file(f"lose/{n}.png", encode_png(render(parse_caption(other), random.Random(n))))
        write.file(f"win/{n}.txt", prompt)
    settings = {"edit.steps": 2, "edit.batch_size": 2, "critique.batch_size": 2, "score.batch_size": 4,
                "pairs.min_margin": 0.0, "pairs.min_agreement": 0.0, "pairs.labels": "rewards"}  # fmt: skip
    bring(tmp_path / "run", write.root, settings)
    report = run(open_line(tmp_path / "run", preset="shapes"), until="build-pairs")
    assert [stage.stage for stage in report.stages] == ["critique", "edit", "score"]
    assert report.stages[0].wanted == 4
    kinds = {row["pair_kind"] for row in rows(tmp_path / "run", "pairs")}
    assert {"import", "edit"} <= kinds
    said = [row["reason"] for row in rows(tmp_path / "run", "pairs") if row["pair_kind"] == "import"]
    assert set(said) <= {"label_confirmed", "relabelled", "duplicate", "unchanged"}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["imports"]


def test_rows_of_another_packages_importer_name_it_and_its_next_version_reads_again(tmp_path, monkeypatch):
    site = tmp_path / "site" / "third.dist-info"
    site.mkdir(parents=True)
    (site / "entry_points.txt").write_text(f"[rpo.importers]\ntheirs = {registry.importers['jsonl']}\n")
    monkeypatch.syspath_prepend(str(site.parent))
    (tmp_path / "a.png").write_bytes(encode_png(Picture.new("RGB", (8, 8))))
    (tmp_path / "rows.jsonl").write_text('{"prompt": "one", "image": "a.png"}\n')
    found = []
    for version in ("1.0", "1.0", "1.1"):
        (site / "METADATA").write_text(f"Metadata-Version: 2.1\nName: third\nVersion: {version}\n")
        registry._points.cache_clear()
        bring(tmp_path / "run", tmp_path / "rows.jsonl", format="theirs")
        (about,) = json.loads((tmp_path / "run" / "run.json").read_text())["imports"].values()
        found.append((about["code"]["version"], about["content"]))
    registry._points.cache_clear()

    contents = [content for _, content in found]
    assert contents[0] == contents[1] != contents[2]
    assert [version for version, _ in found] == ["1.0", "1.0", "1.1"]
    (row,) = rows(tmp_path / "run", "images")
    assert json.loads(row["settings"])["code"]["distribution"] == "third"
