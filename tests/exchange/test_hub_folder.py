"""`rpo import` of a dataset on the hub: real HTTP with ranges and the hub's own client."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rpo_cli import open_line
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.exchange.hub import Reference, _plain, parse
from rpo_cli.line.imports.run import import_source
from tests.hub_server import Hub

NAME = "someone/pairs"
TOKEN = "hf_plantedsecrettokenplantedsecret00"
TABLES = ("prompts", "images", "critiques", "preferences", "rejects")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    from huggingface_hub import constants

    server = Hub().start()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    place = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", place)
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", server.url, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-login"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.stop()


def publish(hub, root, name=NAME, **said):
    """The files of a folder as a repository."""
    files = {f.relative_to(root).as_posix(): f.read_bytes() for f in root.rglob("*") if f.is_file()}
    hub.repos[name] = {"private": False, "files": files, "sha": "a" * 40, **said}
    return files


def bring(run, source=NAME, **said):
    return import_source(open_line(run, {"run.rows_per_part": 2}), source, **said)


def rows(run, table):
    return [
        row for file in (Path(run) / table).rglob("*.parquet") for row in pq.read_table(file).to_pylist()
    ]


def content(run):
    """What a run has taken, without what it says of the source."""
    said = {
        "images": lambda row: (row["prompt"], row["index"], row["source_id"] or "", row["image"]["bytes"]),
        "preferences": lambda row: (row["row"], row["a_sha256"], row["b_sha256"], str(row["choice"])),
        "rejects": lambda row: (row["input_id"], row["reason"]),
        "critiques": lambda row: row["text"],
    }
    return {table: sorted(map(of, rows(run, table))) for table, of in said.items()}


def as_pickapic(write):
    for number in range(2):
        picks = [write.pick(10 * number + n, n % 2) for n in range(5)]
        write.parquet(f"data/train-{number}.parquet", [*picks, write.pick(9 + number, 1.0, jpg_0=b"x")])


def as_imagefolder(write):
    names = ["a.png", "b.png", "../../etc/passwd", "gone.png"]
    write.lines("metadata.jsonl", [{"file_name": name, "prompt": f"of {name}"} for name in names])
    for n, name in enumerate(names[:2]):
        write.file(name, write.png(n))


def as_folders(write):
    for n in range(3):
        write.file(f"win/{n}.png", write.png(n))
        write.file(f"lose/{n}.png", write.png(n + 5))
        write.file(f"win/{n}.txt", f"prompt {n}")


def as_webdataset(write):
    members = [
        (f"{n}.{ending}", data)
        for n in range(3)
        for ending, data in (
            ("jpg_0.png", write.png(n)),
            ("jpg_1.png", write.png(n + 7)),
            ("caption.txt", b"told"),
            ("label_0.txt", b"1"),
        )
    ]
    write.tar("pairs-0.tar", members)


def as_hpdv2(write):
    items = [
        {"prompt": f"p{n}", "file_path": [f"{n}.png", f"{n + 5}.png"], "human_preference": [1, 0]}
        for n in (0, 1)
    ]
    write.file("train.json", json.dumps(items))
    for n in (0, 1, 5, 6):
        write.file(f"train/{n}.png", write.png(n))


def as_imagerewarddb(write):
    path = "images/train/train_1"
    asked = [
        {"image_path": f"{path}/{n}.png", "prompt_id": "q", "prompt": "p", "rank": n} for n in (1, 2, 3)
    ]
    write.parquet("metadata-train.parquet", asked)
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for n in (1, 2, 3):
            archive.writestr(f"{n}.png", write.png(n))
    write.file(f"{path}.zip", packed.getvalue())


@pytest.mark.parametrize(
    "lay_out", [as_pickapic, as_imagefolder, as_folders, as_webdataset, as_hpdv2, as_imagerewarddb]
)
def test_a_dataset_of_the_hub_gives_the_rows_that_its_folder_gives(tmp_path, write, hub, lay_out):
    lay_out(write)
    write.file("README.md", "---\nlicense: cc-by-4.0\n---\n")
    publish(hub, write.root)
    here, there = bring(tmp_path / "here", write.root), bring(tmp_path / "there")
    assert (there.format, there.images, there.rejects) == (here.format, here.images, here.rejects)
    assert there.images > 0
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert there.source == NAME
    (said,) = json.loads((tmp_path / "there" / "run.json").read_text())["imports"].values()
    assert said["revision"] == "a" * 40
    assert there.license in ("cc-by-4.0", "apache-2.0")


def test_only_what_is_read_travels_and_nothing_is_kept_beside_the_run(tmp_path, write, hub, monkeypatch):
    monkeypatch.setattr("rpo_cli.exchange.importers.parquet.FAR_BUFFER", 2**12)
    for number in range(12):
        big = [write.pick(10 * number + n, 1.0, jpg_0=write.png(n, side=128)) for n in range(8)]
        write.parquet(f"data/train-{number:02}.parquet", big)
    files = publish(hub, write.root)
    home = tmp_path / "home"
    monkeypatch.setenv("HF_HOME", str(home))
    assert bring(tmp_path / "run", limit=3).images == 6
    assert hub.sent < sum(map(len, files.values())) / 10
    asked = {path.rpartition("/")[2] for _, path, _ in hub.asked if "/resolve/" in path}
    assert asked == {"train-00.parquet"}
    assert not home.exists()


def test_a_run_stays_at_the_commit_that_it_began_with(tmp_path, write, hub):
    as_pickapic(write)
    publish(hub, write.root)
    bring(tmp_path / "run", limit=2)
    hub.commits[NAME] = {"a" * 40: "main"}  # still there, while the branch has moved on
    hub.repos[NAME]["sha"] = "b" * 40
    hub.asked.clear()
    bring(tmp_path / "run")
    assert {path.split("/resolve/")[1][:40] for _, path, _ in hub.asked if "/resolve/" in path} == {
        "a" * 40
    }
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert manifest["datasets"] == {NAME: "a" * 40}
    assert len(manifest["imports"]) == 1
    bring(tmp_path / "run", f"hf://datasets/{NAME}@{'b' * 40}")
    (said,) = json.loads((tmp_path / "run" / "run.json").read_text())["imports"].values()
    assert said["revision"] == "b" * 40  # the same source, at another commit


def test_another_commit_replaces_what_the_one_before_said_and_the_same_is_not_read_again(
    tmp_path, write, hub
):
    as_folders(write)
    publish(hub, write.root)
    assert bring(tmp_path / "run").added == 3
    hub.asked.clear()
    assert bring(tmp_path / "run").rows == 0
    assert [path for _, path, _ in hub.asked if "/resolve/" in path] == []
    write.file("win/0.txt", "prompt X")
    (write.root / "lose" / "2.png").unlink()
    publish(hub, write.root, sha="b" * 40)
    report = bring(tmp_path / "run", f"{NAME}@{'b' * 40}")
    assert (report.added, report.changed, report.withdrawn) == (0, 1, 1)
    assert (report.images, report.rejects) == (4, {"missing_image": 1})
    assert f"at commit {'b' * 12}, before at {'a' * 12}" in report.notes


def test_a_part_of_a_dataset_and_pictures_of_another_are_named_alike(tmp_path, write, writer, hub):
    write.parquet("v1/data/train-0.parquet", [write.pick(n) for n in range(3)])
    publish(hub, write.root, "someone/many")
    labels = writer(tmp_path / "labels")
    labels.tfrecord("train.tfrecord", [write.label("uid-1-0", "1 0")])
    publish(hub, labels.root)
    report = bring(tmp_path / "run", images="hf://datasets/someone/many@main/v1")
    assert (report.images, report.critiques) == (1, 1)
    assert bring(tmp_path / "part", "hf://datasets/someone/many/v1/data").images == 6


@pytest.mark.parametrize(
    ("source", "spoil", "kind", "said", "hint"),
    [
        ("someone/gone", None, UsageError, "no such dataset on the hub", "hf auth login"),
        (f"{NAME}@v9", None, UsageError, "no revision 'v9'", "branches"),
        (f"hf://datasets/{NAME}/nowhere", None, UsageError, "no such file or folder in the d", "data"),
        ("hf://someone/model", None, UsageError, "names a model", "hf://datasets/someone/model"),
        ("hf://datasets/x", None, UsageError, "names no dataset", "OWNER/NAME"),
        ("hf://datasets/a/b..c", None, UsageError, "names no dataset", "OWNER/NAME"),
        ("https://example.com/a/b", None, UsageError, "names no dataset", "OWNER/NAME"),
        (NAME, "gated", RpoError, "after a licence is accepted", f"datasets/{NAME}"),
        (NAME, "private", UsageError, "no such dataset on the hub", "private dataset: hf auth login"),
        (NAME, "offline", RpoError, "cannot reach the hub", "HF_HUB_OFFLINE"),
        (NAME, "down", RpoError, "cannot reach the hub", "HF_ENDPOINT"),
        (NAME, "refusing", RpoError, "the hub refuses: try again later", "the same command goes on"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_two_lines(
    tmp_path, write, hub, monkeypatch, source, spoil, kind, said, hint
):
    as_pickapic(write)
    publish(hub, write.root, private=spoil == "private")
    hub.tokens = {TOKEN}
    hub.gated = {NAME} if spoil == "gated" else set()
    if spoil == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if spoil == "down":
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
        monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", "http://127.0.0.1:1", raising=False)
    if spoil == "refusing":
        hub.trouble = lambda path: 418 if "/resolve/" in path else None
    with pytest.raises(RpoError, match=said) as caught:
        bring(tmp_path / "run", source)
    assert type(caught.value) is kind
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message
    assert rows(tmp_path / "run", "rejects") == []


def test_a_lost_connection_is_no_bad_row_and_the_same_command_goes_on(tmp_path, write, hub, monkeypatch):
    as_folders(write)
    publish(hub, write.root)
    bring(tmp_path / "whole", write.root)
    hub.trouble = lambda path: 418 if path.endswith("win/2.png") else None
    with pytest.raises(RpoError, match="the hub refuses"):
        bring(tmp_path / "run")
    assert rows(tmp_path / "run", "rejects") == []
    assert len(rows(tmp_path / "run", "images")) == 4
    hub.trouble = lambda path: None
    bring(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "whole")


def test_a_hub_that_falls_silent_is_waited_for_and_then_told(tmp_path, write, hub, monkeypatch):
    as_folders(write)
    publish(hub, write.root)
    quiet, tries = threading.Event(), []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between tries

    def silence(path):
        if path.endswith("lose/1.png"):
            tries.append(path)
            quiet.wait(20)

    hub.trouble = silence
    with pytest.raises(RpoError, match=r"the hub does not answer \(ReadTimeout\)") as caught:
        bring(tmp_path / "run")
    quiet.set()
    assert len(tries) > 2
    assert "HF_HUB_DOWNLOAD_TIMEOUT" in caught.value.hint


def test_a_server_that_knows_no_ranges_is_not_taken_at_its_word(tmp_path, write, hub, monkeypatch):
    monkeypatch.setattr("rpo_cli.exchange.importers.parquet.FAR_BUFFER", 2**10)
    as_pickapic(write)
    publish(hub, write.root)
    hub.ranges = False
    with pytest.raises(RpoError, match=r"bytes of data/train-0\.parquet came"):
        bring(tmp_path / "run")


def test_a_private_dataset_needs_the_users_own_token_which_is_kept_nowhere(
    tmp_path, write, hub, monkeypatch, capfd
):
    as_pickapic(write)
    publish(hub, write.root, private=True)
    hub.tokens = {TOKEN}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert bring(tmp_path / "run").images == 20
    assert {said for _, _, said in hub.asked} == {f"Bearer {TOKEN}"}
    for file in (tmp_path / "run").rglob("*"):
        assert file.is_dir() or TOKEN.encode() not in file.read_bytes()
    assert TOKEN not in "".join(capfd.readouterr())


def test_names_that_no_repository_can_have_are_not_listed(tmp_path, write, hub):
    as_folders(write)
    files = publish(hub, write.root)
    hub.repos[NAME]["files"] = files | {"../out.png": b"x", "/etc/shadow": b"x", "win/a\x1b[2J.png": b"x"}
    report = bring(tmp_path / "run")
    assert (report.images, report.rejects) == (6, {})
    assert not any(".." in path or "shadow" in path or "%1B" in path for _, path, _ in hub.asked)


def test_a_folder_here_wins_over_the_hub(tmp_path, write, hub, monkeypatch):
    as_folders(write)
    monkeypatch.chdir(write.root.parent)
    (write.root.parent / "someone").mkdir()
    write.root.rename(write.root.parent / NAME)
    assert bring(tmp_path / "run").images == 6
    with pytest.raises(UsageError, match="did you mean"):
        bring(tmp_path / "run", "someone/pair")
    assert hub.asked == []


def test_addresses_of_the_hubs_pages_are_understood():
    assert parse(NAME) == Reference(NAME, None, "")
    assert parse(f"{NAME}@v1") == Reference(NAME, "v1", "")
    assert parse(f"hf://datasets/{NAME}@refs/pr/3/data") == Reference(NAME, "refs/pr/3", "data")
    assert parse(f"https://huggingface.co/datasets/{NAME}/tree/main/data") == Reference(
        NAME, "main", "data"
    )


def importer(run, endpoint):
    os.environ |= {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0"}
    bring(run)


@pytest.mark.slow
def test_an_import_from_the_hub_killed_at_any_moment_ends_with_the_same_bytes(tmp_path, write, hub):
    for number in range(3):
        write.parquet(
            f"data/train-{number}.parquet", [write.pick(10 * number + n, n % 2) for n in range(10)], 3
        )
    publish(hub, write.root)
    hub.trouble = lambda path: time.sleep(0.01)
    bring(tmp_path / "whole")
    context = multiprocessing.get_context("spawn")
    kills = 0
    for parts in (2, 6, None):
        process = context.Process(target=importer, args=(str(tmp_path / "run"), hub.url))
        process.start()
        while (
            parts and process.exitcode is None and len(list((tmp_path / "run").rglob("*.parquet"))) < parts
        ):
            time.sleep(0.005)
        if parts and process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
    assert kills == 2
    assert content(tmp_path / "run") == content(tmp_path / "whole")
    assert sorted(f.name for f in (tmp_path / "run" / "images").rglob("part-*.parquet")) == sorted(
        f.name for f in (tmp_path / "whole" / "images").rglob("part-*.parquet")
    )


@pytest.mark.slow
def test_the_command_itself_streams_and_tells_what_it_took(tmp_path, write, hub):
    as_pickapic(write)
    publish(hub, write.root, private=True)
    hub.tokens = {TOKEN}
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN}
    command = [sys.executable, "-c", "from rpo_cli.cli.app import main; main()", "import", "run"]
    command += [f"hf://datasets/{NAME}", "--limit", "2"]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{NAME} as pickapic: 4 pictures" in done.stdout
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("data/train 0.parquet", True),
        ("..a/b..", True),
        ("", False),
        ("/etc/hostname", False),
        ("../a.png", False),
        ("data/../../a.png", False),
        ("data/a\n.png", False),
    ],
)
def test_names_in_a_listing_that_no_file_of_a_repository_has_are_left_out(name, plain):
    assert _plain(name) is plain
