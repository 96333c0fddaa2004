"""`rpo try` at the door: what it prints, where the picture is, and what is refused."""

import json
from pathlib import Path

import pytest

from rpo_cli import open_line
from rpo_cli.line.work import base
from rpo_cli.pictures import decode
from tests.adapters import write_adapter


@pytest.fixture
def tuned(place):
    """A run of one picture per prompt with two finished trainings of it."""
    line = open_line(
        place.run, {"prompts.file": str(place.prompts), "generate.generator": str(place.model)}
    )
    line.record()
    base = line.identity(str(place.model)).revision
    for name in ("first", "second"):
        folder = place.run / "train" / name
        write_adapter(folder / "adapter", name)
        (folder / "done.json").write_text(json.dumps({"identity": {"model": base}}))
    return place


def test_the_picture_is_drawn_and_its_path_told(rpo, tuned):
    done = rpo("try", tuned.run, "a red circle", "two blue squares", "--name", "first", "--seed", 5)

    assert done.code == 0
    told = done.out.splitlines()
    assert told[:2] == ["prompts: 2, start noises of each: 1 (seed 5)", "models: base, first"]
    path = Path(told[2].removeprefix("picture: "))
    assert path.parent == tuned.run / "try"
    assert path.name.startswith("a-red-circle-")
    assert decode(path.read_bytes()).width > 2 * 192
    assert "base: generate 2/2, done" in done.err


def test_quiet_says_the_path_alone_and_the_same_ask_the_same(rpo, tuned):
    first = rpo("try", "-q", tuned.run, "a red circle")
    again = rpo("try", tuned.run, "a red circle")

    assert (first.code, first.err, first.out.count("\n")) == (0, "", 1)
    assert again.out.splitlines()[-1] == f"picture: {first.out.strip()} (already there)"


def test_json_says_what_the_picture_shows(rpo, tuned, tmp_path):
    out = tmp_path / "tried.png"
    options = ["--images-per-prompt", 2, "--guidance", 3, "--out", out, "--json"]

    done = rpo("try", tuned.run, "a red circle", *options, "--name", "second", "--name", "best=first")

    found = json.loads(done.out)
    nothing = {"base": {}, "second": {}, "best": {}}
    assert found.pop("seed") >= 0
    assert [note[:15] for note in found.pop("notes")] == ["as told earlier"]
    assert found == {
        "path": str(out),
        "prompts": ["a red circle"],
        "models": ["base", "second", "best"],
        "seeds": 2,
        "guidance": 3.0,
        "rejected": nothing,
        "skipped": False,
    }
    assert json.loads(rpo("try", tuned.run, "a red circle", *options, "--name", "first").out)["models"] == [
        "base",
        "first",
    ]


def test_without_a_name_all_trainings_are_drawn_and_that_is_told(rpo, tuned):
    done = rpo("try", tuned.run, "a red circle")

    assert "models: base, first, second" in done.out
    assert "all 2 trainings: first, second; --name chooses" in done.err


def test_a_blank_is_counted(rpo, tuned, monkeypatch):
    painter = base.build_backend

    def backend(*parts, **options):
        return type(painter())(censored=bool(options.get("lora")))

    monkeypatch.setattr(base, "build_backend", backend)

    done = rpo("try", tuned.run, "a red circle", "--name", "first")

    assert (done.code, "rejected of first: black_image 1" in done.out) == (0, True)


def test_a_run_without_a_training_is_told_what_to_do(rpo, place):
    rpo("generate", place.run, *place.options)

    done = rpo("try", place.run, "a red circle")

    assert (done.code, done.out) == (2, "")
    assert "no finished training" in done.err
    assert f"hint: rpo train {place.run}" in done.err
    assert not (place.run / "try").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "missing argument 'PROMPT"),
        ([" "], "prompt 1 is empty"),
        (["a"] * 3 + [f"a {number}" for number in range(64)], "65 prompts, more than 64"),
        (["a", "--name", "secnod"], "did you mean 'second'"),
        (["a", "--images-per-prompt", "0"], "--images-per-prompt"),
        (["a", "--guidance", "nan"], "--guidance"),
        (["a", "--out", "picture.jpg"], "PNG"),
        (["a", "--out", "/dev/null/picture.png"], "is no folder"),
        (["a", "--set", "generate.stepz=3"], "generate.stepz"),
    ],
)
def test_a_wrong_ask_ends_before_a_model_loads(rpo, tuned, monkeypatch, arguments, said):
    monkeypatch.setattr(base, "build_backend", lambda *parts, **options: pytest.fail("a model was built"))

    done = rpo("try", tuned.run, *arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not (tuned.run / "try").exists()


def test_a_licence_is_asked_for_before_a_model_loads(rpo, tuned, monkeypatch):
    monkeypatch.setattr(base, "build_backend", lambda *parts, **options: pytest.fail("a model was built"))
    (tuned.model / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")

    done = rpo("try", tuned.run, "a", "--name", "first")

    assert (done.code, "--accept-license" in done.err) == (2, True)


def test_a_run_that_is_none_is_not_made(rpo, tmp_path):
    done = rpo("try", tmp_path / "none", "a red circle")

    assert (done.code, (tmp_path / "none").exists()) == (2, False)


def test_settings_for_one_picture_are_not_kept(rpo, tuned):
    before = (tuned.run / "run.json").read_bytes()

    assert rpo("try", tuned.run, "a", "--set", "generate.steps=3", "--device", "cpu").code == 0
    assert (tuned.run / "run.json").read_bytes() == before
