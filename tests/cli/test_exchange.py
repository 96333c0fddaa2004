"""import, export and push as a user types them."""

import json

import numpy as np
import pytest
from PIL import Image

from rpo_cli.pictures import encode_png


@pytest.fixture
def folders(tmp_path):
    """Two pairs in win/ and lose/."""
    rng = np.random.default_rng(0)
    for side in ("win", "lose"):
        (tmp_path / "source" / side).mkdir(parents=True)
        for name in "ab":
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            (tmp_path / "source" / side / f"{name}.png").write_bytes(encode_png(Image.fromarray(pixels)))
            (tmp_path / "source" / side / f"{name}.txt").write_text(f"prompt {name}")
    return tmp_path / "source"


def test_import_build_and_export_are_three_commands(rpo, tmp_path, folders):
    run = tmp_path / "run"
    done = rpo("import", run, folders)
    assert done.code == 0
    assert "source as folders: 4 pictures, 2 judged pairs" in done.out
    assert "format: folders" in done.err
    built = rpo("build-pairs", run, "--strategy", "imported", "--set", "score.rewards=[]", "--json")
    assert json.loads(built.out)["pairs"]["accepted"] == 2
    written = rpo("export", run, "jsonl", "--quiet")
    assert written.out.strip() == str(run / "export" / "jsonl")
    for fresh in (True, False):
        said = json.loads(rpo("export", run, "trl", "--out", tmp_path / "trl", "--json").out)
        assert said["fresh"] is fresh
        assert (said["rows"], said["left_out"], said["refused"]) == ({}, {"without an edit": 2}, {})
    told = rpo("export", run, "trl", "--out", tmp_path / "trl").out.splitlines()
    assert told[0] == "trl: no rows, was there already"
    assert told[1] == "rows: 2: 0 written, 2 left out (2 without an edit)"
    assert rpo("status", run).code == 0
    assert rpo("report", run).code == 0


def test_import_as_json_counts_what_came_in(rpo, tmp_path, folders):
    (folders / "win" / "b.png").unlink()
    said = json.loads(
        rpo("import", tmp_path / "run", folders, "--format", "folders", "--license", "mit", "--json").out
    )
    assert (said["images"], said["judged"], said["rejects"]) == (2, 1, {"missing_image": 1})
    assert said["license"] == "mit"


def test_an_import_says_what_has_changed(rpo, tmp_path, folders):
    first = rpo("import", tmp_path / "run", folders).out
    assert "rows: 2: 2 taken, 0 rejected; 2 added, 0 changed, 0 withdrawn" in first
    assert (
        "rows: 2: 2 taken, 0 rejected; nothing has changed" in rpo("import", tmp_path / "run", folders).out
    )
    for side in ("win", "lose"):
        (folders / side / "a.txt").write_text("another prompt")
    (folders / "win" / "b.png").unlink()
    (folders / "lose" / "b.png").unlink()
    said = json.loads(rpo("import", tmp_path / "run", folders, "--json").out)
    assert (said["added"], said["changed"], said["withdrawn"]) == (0, 1, 1)
    for side in ("win", "lose"):
        (folders / side / "a.txt").write_text("prompt a")
    assert "0 added, 1 changed, 0 withdrawn" in rpo("import", tmp_path / "run", folders).out


def test_a_source_is_withdrawn_by_the_name_that_status_tells(rpo, tmp_path, folders):
    run = tmp_path / "run"
    rpo("import", run, folders)
    (name,) = json.loads(rpo("status", run, "--json").out)["sources"]
    assert f"imported {name['id']}: source as folders, 2 rows, licence unknown" in rpo("status", run).out
    done = rpo("import", run, "--withdraw", "source")
    assert (done.code, "4 pictures, 2 judgements" in done.out) == (0, True)
    said = json.loads(rpo("import", run, "--withdraw", "source", "--json").out)
    assert (said["id"], said["images"], said["shared"]) == (name["id"], 0, 0)
    assert "licence unknown, withdrawn" in rpo("status", run).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--withdraw", "sourec"), "no source 'sourec'; did you mean 'source'"),
        (("--withdraw", "source", "--limit", "3"), "limit cannot stand beside it"),
        (("source", "--withdraw", "source"), "source cannot stand beside it"),
        ((), "no SOURCE is given"),
    ],
)
def test_a_wrong_withdrawal_is_told_and_changes_nothing(
    rpo, tmp_path, folders, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    rpo("import", "run", folders)
    before = (tmp_path / "run" / "run.json").read_bytes()
    done = rpo("import", "run", *arguments)
    assert (done.code, said in done.err) == (2, True), done.err
    assert done.err.count("\n") == 2
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    assert rpo("import", "elsewhere", "--withdraw", "source").code == 2
    assert not (tmp_path / "elsewhere").exists()


def test_an_import_of_nothing_but_bad_rows_fails_with_the_reasons(rpo, tmp_path, folders):
    for file in folders.glob("win/*.png"):
        file.write_bytes(b"no picture")
    done = rpo("import", tmp_path / "run", folders)
    assert done.code == 1
    assert "corrupt_image 2" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("import", "run", "nowhere"), "no such file or folder"),
        (("import", "run", "source", "--format", "pickpic"), "did you mean 'pickapic'"),
        (("import", "run", "source", "--format", "pickapic"), "no Parquet files"),
        (("import", "run", "source", "--limit", "0"), "limit"),
        (("export", "run", "jsonl"), "no run here"),
        (("push", "run", "me/pairs"), "no run here"),
    ],
)
def test_a_wrong_word_is_told_before_anything_is_made(rpo, tmp_path, folders, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    done = rpo(*arguments)
    assert (done.code, said in done.err) == (2, True), done.err
    assert not (tmp_path / "run").exists()


def test_a_run_may_hold_generated_and_imported_pictures(rpo, place, folders):
    assert rpo("generate", place.run, *place.options).code == 0
    assert rpo("import", place.run, folders).code == 0
    said = {row["stage"]: row for row in json.loads(rpo("status", place.run, "--json").out)["stages"]}
    assert (said["generate"]["wanted"], said["generate"]["present"], said["generate"]["stale"]) == (4, 4, 0)
    assert said["import"]["present"] == 4
    assert json.loads(rpo("generate", place.run, "--json").out)["made"] == 0


def test_a_note_stands_once_in_json(rpo, tmp_path, folders):
    said = json.loads(rpo("import", tmp_path / "run", folders, "--json").out)
    assert said["notes"] == ["format: folders"]
    assert (said["taken"], said["rejected"], said["left_out"], said["unused"]) == (2, 0, 0, [])
