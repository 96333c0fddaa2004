"""Other people's pictures: what is read, whose colours they have, where their files may lie."""

import io
import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rpo_cli import open_line
from rpo_cli.errors import UsageError
from rpo_cli.exchange.incoming import inside
from rpo_cli.exchange.raw_rows import BadRow
from rpo_cli.line.dataset.inputs import build_pairs, dataset_is_current
from rpo_cli.line.imports.run import import_source
from rpo_cli.line.stage import hydrate, run_stage
from rpo_cli.line.upgrade import upgrade
from rpo_cli.line.work.critique import critique_work
from rpo_cli.line.work.score import score_works
from rpo_cli.pictures import sha256
from rpo_cli.records import FORMAT_VERSION
from rpo_cli.records import Image as ImageRow
from rpo_cli.store import open_store
from tests import profiles as made

ONLY = {"pairs.strategy": "imported", "score.rewards": (), "pairs.val_fraction": 0.0}
P3, CONVERTED = (128, 64, 32), (138, 59, 21)  # by hand: tests/test_colours.py


def encoded(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


def flat(colour, **options):
    return encoded(Image.new("RGB", (8, 8), colour), **options)


def bring(run, source, options=None, **said):
    line = open_line(run, options or ONLY)
    return import_source(line, source, **said)


def rows(run, table):
    return [
        row for file in sorted((run / table).rglob("*.parquet")) for row in pq.read_table(file).to_pylist()
    ]


def rejects(run):
    return {row["input_id"]: (row["reason"], row["detail"]) for row in rows(run, "rejects")}


@pytest.fixture
def profiled(write):
    """Pairs: of one side Display P3, of the other Adobe RGB; both plain; a broken profile; a moving GIF."""
    moving = {"format": "GIF", "save_all": True, "append_images": [Image.new("RGB", (8, 8), "red")]}
    write.file("0a.png", flat(P3, icc_profile=made.display_p3()))
    write.file("0b.jpg", flat((9, 90, 200), format="JPEG", icc_profile=made.adobe_rgb()))
    write.file("1a.png", flat((5, 5, 5)))
    write.file("1b.png", flat((250, 5, 5), icc_profile=made.profile("sRGB")))
    write.file("2a.png", flat((1, 2, 3), icc_profile=b"no profile"))
    write.file("2b.gif", flat((200, 200, 200), **moving))
    names = [("0a.png", "0b.jpg"), ("1a.png", "1b.png"), ("2a.png", "2b.gif")]
    write.lines(
        "pairs.jsonl", [{"prompt": f"p {n}", "chosen": a, "rejected": b} for n, (a, b) in enumerate(names)]
    )
    return write.root


NOTES = (
    "2 pictures in another colour profile (Adobe RGB (1998), Display P3) were read as sRGB",
    "1 picture with a colour profile that cannot be read was taken as sRGB",
    "1 picture of several frames or pages was read by the first",
)


def test_an_import_counts_what_it_did_to_pictures_each_time_it_is_asked(tmp_path, profiled):
    for _ in range(2):
        report = bring(tmp_path / "run", profiled)
        assert report.notes[-3:] == NOTES
    found = {row["sha256"]: row for row in rows(tmp_path / "run", "images")}
    told = sorted(
        ((row["profile"] or "", row["decoding"], row["several"]) for row in found.values()), key=str
    )
    assert told == [
        ("", None, None),
        ("", None, None),
        ("", None, True),
        ("Adobe RGB (1998)", "srgb-1", None),
        ("Display P3", "srgb-1", None),
        ("unreadable", None, None),
    ]
    kept = {row["image"]["bytes"] for row in found.values()}
    assert kept == {file.read_bytes() for file in profiled.iterdir() if file.suffix != ".jsonl"}


def test_a_source_without_such_pictures_tells_nothing(tmp_path, judged):
    assert not [note for note in bring(tmp_path / "run", judged.root).notes if "picture" in note]


def test_a_profiles_name_is_data_and_breaks_no_note(tmp_path, write):
    write.file("a.png", flat(P3, icc_profile=made.profile("{0} {x} %s", made.P3)))
    write.lines("metadata.jsonl", [{"file_name": "a.png", "prompt": "p"}])
    report = bring(tmp_path / "run", write.root)
    assert report.notes[-1] == "1 picture in another colour profile ({0} {x} %s) was read as sRGB"


def test_the_dataset_holds_the_colours_that_a_person_sees(tmp_path, profiled):
    bring(tmp_path / "run", profiled)
    build_pairs(open_line(tmp_path / "run", ONLY))
    (row,) = [row for row in pq_rows(tmp_path / "run") if row["caption"] == "p 0"]
    winner = Image.open(io.BytesIO(row["jpg_0"] if row["label_0"] == 1 else row["jpg_1"]))
    assert (winner.format, "icc_profile" in winner.info) == ("PNG", False)
    assert np.abs(np.subtract(winner.getpixel((1, 1)), CONVERTED)).max() <= 2


def pq_rows(run):
    return [
        row
        for file in (run / "dataset" / "data").glob("*.parquet")
        for row in pq.read_table(file).to_pylist()
    ]


def test_critic_and_rewards_are_given_the_colours_that_a_person_sees(tmp_path, write):
    write.file("a.png", flat(P3, icc_profile=made.display_p3()))
    write.lines("metadata.jsonl", [{"file_name": "a.png", "prompt": "p"}])
    import_source(open_line(tmp_path / "run", preset="shapes"), write.root)
    line = open_line(tmp_path / "run", preset="shapes")
    for work in (critique_work(line), score_works(line)[0]):
        (task,) = hydrate(line, work, work.tasks())
        assert np.abs(np.subtract(task.payload.picture.getpixel((1, 1)), CONVERTED)).max() <= 2


# --- keys and runs of before ----------------------------------------------------------------------------


def of_before(run):
    """Make a run what the version before wrote: no columns on how pictures are decoded, format 3."""
    store = open_store(run)
    for part in store.parts("images"):
        found = [row for row in store.part_rows("images", part) if isinstance(row, ImageRow)]
        bare = {"decoding": None, "profile": None, "several": None}
        store.commit("images", [row.model_copy(update=bare) for row in found], group=part.group)
    manifest = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**manifest, "format": 3}))


def keys(run):
    line = open_line(run, preset="shapes")
    return {task.payload.image_sha256: task.key for task in critique_work(line).tasks()}


def test_only_keys_of_converted_pictures_hold_how_they_are_decoded(tmp_path, profiled):
    import_source(open_line(tmp_path / "run", preset="shapes"), profiled)
    now = keys(tmp_path / "run")
    converted = {row["sha256"] for row in rows(tmp_path / "run", "images") if row["decoding"]}
    of_before(tmp_path / "run")
    before = keys(tmp_path / "run")
    assert len(converted) == 2
    assert {sha for sha in now if now[sha] != before[sha]} == converted


def test_a_run_of_before_with_profiled_pictures_is_upgraded_and_says_what_is_made_anew(tmp_path, profiled):
    import_source(open_line(tmp_path / "run", preset="shapes"), profiled)
    now, images = keys(tmp_path / "run"), rows(tmp_path / "run", "images")
    of_before(tmp_path / "run")
    with pytest.raises(UsageError, match="2 imported pictures in another colour profile"):
        run_stage(open_line(tmp_path / "run", preset="shapes"), "score")
    (plan,) = upgrade(tmp_path / "run", dry_run=True)
    (done,) = upgrade(tmp_path / "run")
    assert plan == done
    assert done.again == {
        "imported pictures in another colour profile: their critiques, edits and scores": 2
    }
    assert keys(tmp_path / "run") == now
    (again,) = upgrade(tmp_path / "run")
    assert (again.before, again.again) == (FORMAT_VERSION, {})
    told = {row["image_id"]: (row["profile"], row["decoding"]) for row in rows(tmp_path / "run", "images")}
    assert told == {row["image_id"]: (row["profile"], row["decoding"]) for row in images}


def test_a_run_of_before_without_such_pictures_is_taken_as_it_is(tmp_path, judged):
    bring(tmp_path / "run", judged.root)
    of_before(tmp_path / "run")
    report = bring(tmp_path / "run", judged.root)
    assert (report.added, report.changed, report.withdrawn) == (0, 0, 0)
    assert open_store(tmp_path / "run").read_manifest()["format"] == FORMAT_VERSION


def test_an_upgrade_of_joined_parts_leaves_each_row_once(tmp_path, profiled):
    line = open_line(tmp_path / "run", {**ONLY, "run.rows_per_part": 1})
    import_source(line, profiled)
    of_before(tmp_path / "run")
    store = open_store(tmp_path / "run")
    assert store.compact("images")
    upgrade(tmp_path / "run")
    store = open_store(tmp_path / "run")
    ids = [row["image_id"] for row in rows(tmp_path / "run", "images")]
    assert len(ids) == len(set(ids)) == 6
    assert (
        sorted(filter(None, store.columns("images", ["decoding"])["decoding"].to_pylist()))
        == ["srgb-1"] * 2
    )


def test_a_dataset_built_before_pictures_were_converted_is_built_again(tmp_path, profiled):
    bring(tmp_path / "run", profiled)
    of_before(tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**manifest, "format": FORMAT_VERSION}))
    build_pairs(open_line(tmp_path / "run", ONLY))
    (tmp_path / "run" / "run.json").write_text(json.dumps({**manifest, "format": 3}))
    upgrade(tmp_path / "run")
    assert not dataset_is_current(open_line(tmp_path / "run", ONLY))
    assert build_pairs(open_line(tmp_path / "run", ONLY)).fresh
    assert dataset_is_current(open_line(tmp_path / "run", ONLY))


# --- formats --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["tif", "bmp", "gif", "avif", "jfif", "PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("layout", ["imagefolder", "folders", "webdataset"])
def test_pictures_of_every_format_come_in(tmp_path, write, layout, ending):
    format = {"tif": "TIFF", "jfif": "JPEG"}.get(ending, ending.upper())
    data = [flat((20 * n, 0, 0), format=format) for n in (1, 2)]
    lay(write, layout, ending, data)
    report = bring(tmp_path / "run", write.root)
    assert (report.format, report.images, report.rejected) == (layout, 2, 0)


def lay(write, layout, ending, data):
    """A pair of pictures."""
    if layout == "imagefolder":
        for name, one in zip(("a", "b"), data, strict=True):
            write.file(f"{name}.{ending}", one)
        told = {"chosen_file_name": f"a.{ending}", "rejected_file_name": f"b.{ending}", "prompt": "p"}
        write.lines("metadata.jsonl", [told])
    elif layout == "folders":
        write.file(f"win/logo.{ending}", data[0])
        write.file(f"lose/logo.{ending}", data[1])
        write.file("win/logo.txt", "p")
    else:
        members = [(f"k.jpg_{n}.{ending}", one) for n, one in enumerate(data)]
        write.tar("0.tar", [*members, ("k.original_prompt.txt", b"p"), ("k.label_0.txt", b"1")])


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
UNREAD = [
    ("svg", "SVG", SVG),
    ("psd", "Photoshop (PSD)", b"8BPS\0\1"),
    ("jxl", "JPEG XL", b"\xff\x0a"),
    ("pdf", "PDF", b"%PDF-1.4"),
    ("mp4", "a video (MP4)", b"\0\0\0\x14ftypisom\0\0\0\0isom"),
    ("png", "HTML", b"<!doctype html><html>gone</html>"),
]


@pytest.mark.parametrize(("ending", "format", "data"), UNREAD)
@pytest.mark.parametrize("layout", ["imagefolder", "folders", "webdataset"])
def test_what_is_no_picture_that_is_read_is_a_reject_with_file_and_format(
    tmp_path, write, layout, ending, format, data
):
    lay(write, layout, ending, [data, flat((1, 1, 1))])
    line = open_line(tmp_path / "run", ONLY)
    report = import_source(line, write.root)
    assert (report.images, report.rejects) == (0, {"other_format": 1})
    ((reason, detail),) = rejects(tmp_path / "run").values()
    file = {
        "imagefolder": f"a.{ending}",
        "folders": f"win/logo.{ending}",
        "webdataset": f"k.jpg_0.{ending}",
    }
    assert reason == "other_format"
    assert detail.startswith(f"{file[layout]}: {format}, not a picture that is read (PNG, ")


def test_beside_a_picture_of_its_name_a_drawing_does_not_count(tmp_path, write):
    lay(write, "folders", "webp", [flat((n, n, n), format="WEBP") for n in (1, 2)])
    write.file("win/logo.svg", SVG)
    assert bring(tmp_path / "run", write.root).images == 2


# --- where files lie ------------------------------------------------------------------------------------


class Snapshot:
    """A dataset in the hub's cache, as huggingface_hub lays it down: every file a link into blobs/."""

    def __init__(self, hub, name="datasets--me--cats", commit="0" * 40):
        self.repository = hub / name
        self.folder = self.repository / "snapshots" / commit

    def file(self, name, data):
        data = data if isinstance(data, bytes) else data.encode()
        blob = self.repository / "blobs" / f"{sha256(data)}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(blob, place.parent))
        return place


@pytest.fixture
def snapshot(tmp_path):
    return Snapshot(tmp_path / "hub")


def test_a_snapshot_of_the_hubs_cache_is_read(tmp_path, snapshot):
    snapshot.file("train/a.png", flat((1, 0, 0)))
    snapshot.file("b.png", flat((2, 0, 0)))
    snapshot.file("README.md", "---\nlicense: cc0-1.0\n---\n")
    told = [{"file_name": name, "prompt": "p"} for name in ("train/a.png", "./b.png")]
    snapshot.file("metadata.jsonl", "".join(json.dumps(row) + "\n" for row in told))
    report = bring(tmp_path / "run", snapshot.folder)
    assert (report.images, report.rejected) == (2, 0)
    assert (report.source, report.license) == ("me/cats", "cc0-1.0")


def test_a_snapshot_is_read_by_any_name_that_leads_to_it(tmp_path, snapshot):
    snapshot.file("a.png", flat((1, 0, 0)))
    table = snapshot.file("pairs.jsonl", json.dumps({"file_name": "a.png", "prompt": "p"}) + "\n")
    (tmp_path / "mine").symlink_to(snapshot.folder)
    assert bring(tmp_path / "one", table).images == 1
    assert bring(tmp_path / "two", tmp_path / "mine").images == 1
    assert bring(
        tmp_path / "three", snapshot.repository / "snapshots" / ".." / "snapshots" / ("0" * 40)
    ).images


def test_folders_of_winners_and_losers_in_a_snapshot_are_read(tmp_path, snapshot):
    for side, grey in (("win", 1), ("lose", 2)):
        snapshot.file(f"{side}/x.png", flat((grey,) * 3))
    snapshot.file("win/x.txt", "p")
    assert bring(tmp_path / "run", snapshot.folder).judged == 1


def test_only_blobs_of_the_snapshots_own_repository_are_its_files(tmp_path, snapshot):
    other = Snapshot(tmp_path / "hub", "datasets--you--dogs")
    theirs, deep = (
        other.file("a.png", flat((1, 0, 0))).resolve(),
        snapshot.repository / "blobs" / "deep" / "a.png",
    )
    deep.parent.mkdir(parents=True)
    deep.write_bytes(flat((2, 0, 0)))
    snapshot.folder.mkdir(parents=True)
    refs = snapshot.repository / "refs.png"
    refs.write_bytes(flat((3, 0, 0)))
    for n, target in enumerate((theirs, deep, refs)):
        (snapshot.folder / f"{n}.png").symlink_to(target)
        with pytest.raises(BadRow, match="is a link that leads out of the source"):
            inside(snapshot.folder, f"{n}.png")


def test_a_blobs_folder_that_is_itself_a_link_opens_nothing(tmp_path, snapshot):
    secret = tmp_path / "secrets" / "a.png"
    secret.parent.mkdir()
    secret.write_bytes(flat((1, 0, 0)))
    snapshot.folder.mkdir(parents=True)
    (snapshot.repository / "blobs").symlink_to(secret.parent)
    (snapshot.folder / "a.png").symlink_to(snapshot.repository / "blobs" / "a.png")
    with pytest.raises(BadRow, match="is a link that leads out"):
        inside(snapshot.folder, "a.png")


def test_a_folder_called_blobs_elsewhere_opens_nothing(write):
    write.file("../blobs/a.png", flat((1, 0, 0)))
    write.file("x", b"")
    (write.root / "a.png").symlink_to(write.root.parent / "blobs" / "a.png")
    with pytest.raises(BadRow, match="is a link that leads out"):
        inside(write.root, "a.png")


STAYING = [
    "./imgs/a.png",
    "imgs/../imgs/a.png",
    "imgs/./a.png",
    "imgs\\a.png",
    "gone/../imgs/a.png",
    "imgs//a.png",
]


@pytest.mark.parametrize("name", STAYING)
def test_names_that_stay_in_the_source_are_read(write, name):
    file = write.file("imgs/a.png", flat((1, 0, 0)))
    assert inside(write.root, name) == file


def test_absolute_paths_inside_the_source_are_read(tmp_path, write):
    file = write.file("imgs/a.png", flat((1, 0, 0)))
    (tmp_path / "link").symlink_to(write.root)
    for name in (str(file), f"{tmp_path}/link/imgs/a.png", f"{tmp_path}/./source/x/../imgs/a.png"):
        for root in (write.root, tmp_path / "link"):
            assert inside(root, name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", ["../images/a.png", "{root}/images/a.png", "./../images/../images/a.png"])
def test_a_table_in_a_folder_of_the_source_may_name_files_of_another(tmp_path, write, name):
    write.file("images/a.png", flat((1, 0, 0)))
    write.lines("train/metadata.jsonl", [{"file_name": name.format(root=write.root), "prompt": "p"}])
    assert bring(tmp_path / "run", write.root).images == 1
    with pytest.raises(BadRow, match="leads out of the source"):
        inside(write.root / "train", name.format(root=write.root))


REFUSED = {
    "../secret.png": "'../secret.png' leads out of the source",
    "a/../../secret.png": "'a/../../secret.png' leads out of the source",
    "/etc/hostname": "'/etc/hostname' is an absolute path that leads out of the source",
    "C:\\secret.png": "is a drive, a server or an absolute path, which leads out of the source",
    "link.png": "'link.png' is a link that leads out of the source",
    "a\0.png": "holds NUL",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_name_is_told_for_what_it_is(write, name):
    secret = write.file("../secret.png", write.png(0))
    write.file("inside.png", write.png(1))
    (write.root / "link.png").symlink_to(secret)
    with pytest.raises(BadRow) as caught:
        inside(write.root, name)
    assert caught.value.reason == "unsafe_path"
    assert REFUSED[name] in caught.value.detail


def test_a_file_that_is_not_there_is_missing_however_it_is_named(write):
    write.file("a.png", write.png(0))
    for name in ("x/../gone.png", str(write.root / "gone.png"), "./gone.png"):
        with pytest.raises(BadRow) as caught:
            inside(write.root, name)
        assert caught.value.reason == "missing_image"
