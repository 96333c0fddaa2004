"""A user's mistake is told in two parts with the right exit code, and nothing is written or lost."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rpo_cli.files import stage_lock
from rpo_cli.line.session import open_line


def assert_told(done, code, *parts):
    """stderr ends with `error: ...`, indented further lines and one `hint: ...` line; stdout is empty."""
    assert re.search(r"^error: .+\n(  .+\n)*hint: .+\n\Z", done.err, re.MULTILINE), done.err
    assert done.err.count("error: ") == 1
    assert "Traceback" not in done.err
    assert done.out == ""
    assert done.code == code
    for part in parts:
        assert part in done.err


MODEL = ["--generator", "model"]
USAGE = [
    (["genrate", "RUN"], ["no such command 'genrate'", "'generate'", "rpo --help"]),
    (["generate", "RUN", "--stepz", "3"], ["no such option: --stepz", "--steps", "rpo generate --help"]),
    (["generate"], ["missing argument 'RUN'", "rpo generate --help"]),
    (["generate", "RUN", "--steps", "many"], ["--steps", "integer"]),
    (["generate", "RUN", "--shard", "4/4"], ["--shard", "0 <= I < N"]),
    (["run", "RUN", "--until", "edits"], ["'edits' is no step", "build-pairs"]),
    (
        ["generate", "RUN", *MODEL, "--prompts", "promts.txt"],
        ["promts.txt", "no such file", "prompts.txt'"],
    ),
    (["generate", "RUN", *MODEL, "--prompts", "empty.txt"], ["empty.txt", "holds no prompt"]),
    (["generate", "RUN", *MODEL, "--prompts", "latin1.txt"], ["latin1.txt", "UTF-8"]),
    (["generate", "RUN", *MODEL, "--prompts", "table.tsv"], ["table.tsv", "subject, object", "--column"]),
    (
        ["generate", "RUN", *MODEL, "--prompts", "table.tsv", "--column", "subjct"],
        ["did you mean 'subject'"],
    ),
    (["generate", "RUN", "--config", "none.toml"], ["none.toml", "no such file"]),
    (["generate", "RUN", "--config", "broken.toml"], ["broken.toml", "not valid TOML"]),
    (["generate", "RUN", "--preset", "shape"], ["'shape'", "did you mean 'shapes'", "rpo list presets"]),
    (["generate", "RUN", "--set", "generate.stepz=3"], ["did you mean 'generate.steps'"]),
    (["generate", "RUN", "--set", "steps=3"], ["SECTION.KEY=VALUE"]),
    (["generate", "RUN", "--steps", "0"], ["generate.steps", "greater than or equal to 1", "(option)"]),
    (["train", "RUN", "--method", "dpoo"], ["train.method", "did you mean 'dpo'"]),
    (["generate", "RUN", "--generator", "folder"], ["folder", "no model folder", "model_index.json"]),
    (["generate", "RUN", "--generator", "pickled"], ["pickled", "pickled weights", "safetensors"]),
    (["generate", "RUN", "--generator", "all.ckpt"], ["is a file", "pickled weights", "rpo convert"]),
    (["generate", "RUN", "--generator", "all.safetensors"], ["is a file", "safetensors", "download"]),
    (["generate", "RUN", "--generator", "unnamed"], ["unnamed", "pickled weights", "unet/weights.bin"]),
    (["generate", "RUN", "--generator", "./modl"], ["no such model folder", "did you mean 'model'"]),
    (["status", "nowhere"], ["nowhere", "no run here"]),
    (["critique", "nowhere"], ["nowhere", "no run here"]),
    (["edit", "nowhere"], ["nowhere", "no run here"]),
    (["build-pairs", "nowhere"], ["nowhere", "no run here"]),
    (["train", "nowhere"], ["no model is named for train.model", "--preset NAME", "--model MODEL"]),
    (["train", "nowhere", "--preset", "shapes"], ["no dataset yet", "rpo build-pairs"]),
    (["status", "prompts.txt"], ["prompts.txt", "is a file"]),
    (["merge", "RUN", "nowhere"], ["nowhere", "no run here"]),
    (["list", "rewads"], ["'rewads'", "did you mean 'rewards'"]),
    (["init", "RUN", "--preset", "shape"], ["did you mean 'shapes'"]),
]


@pytest.fixture
def desk(place, monkeypatch):
    """A working directory with wrong things in it; every test must leave it as it was."""
    monkeypatch.chdir(place.run.parent)
    desk = place.run.parent
    (desk / "empty.txt").write_text("\n  \n")
    (desk / "latin1.txt").write_bytes("café".encode("latin-1"))
    (desk / "table.tsv").write_text("subject\tobject\nstar\tcircle\n")
    (desk / "broken.toml").write_text("[generate\n")
    (desk / "folder").mkdir()
    (desk / "pickled").mkdir()
    (desk / "pickled" / "model_index.json").write_text("{}")
    (desk / "pickled" / "weights.bin").write_bytes(b"cos\nsystem\n")
    for name in ("all.ckpt", "all.safetensors"):
        (desk / name).write_bytes(b"\x80")
    (desk / "unnamed" / "unet").mkdir(parents=True)
    (desk / "unnamed" / "model_index.json").write_text("{}")
    (desk / "unnamed" / "unet" / "weights.bin").write_bytes(b"cos\nsystem\n")
    return desk


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if "cache" not in p.parts)


@pytest.mark.parametrize(("arguments", "parts"), USAGE, ids=lambda value: " ".join(value)[:60])
def test_a_mistake_is_told_in_two_parts_and_leaves_nothing_behind(rpo, desk, arguments, parts):
    before = files(desk)

    done = rpo(*arguments)

    assert_told(done, 2, *parts)
    assert [name for name in files(desk) if name not in before and "logs" not in name] == []


def test_all_wrong_settings_are_told_at_once(rpo, desk):
    """Those of the run's own file, of --config and of options, each with its origin and nearest name."""
    (desk / "RUN").mkdir()
    (desk / "RUN" / "rpo.toml").write_text('preset = "shapes"\n[generate]\nstepz = 3\nseed = 4\n')
    (desk / "more.toml").write_text("[edit]\nimage_guidance = [0.5]\n[generat]\nsteps = 3\n")

    done = rpo("generate", "RUN", "--config", "more.toml", "--batch-size", 0, "--set", "run.engine=rai")

    assert_told(
        done,
        2,
        "error: settings: 6 wrong settings\n",
        "\n  generate.stepz: no such setting; did you mean 'generate.steps'? (RUN/rpo.toml)\n",
        "\n  generate.seed: no such setting; did you mean 'run.seed'? (RUN/rpo.toml)\n",
        "\n  edit.image_guidance: every image guidance must be >= 1, not [0.5] (more.toml)\n",
        "'generat' is no section; did you mean 'generate'? (more.toml)\n",
        "\n  generate.batch_size: input should be greater than or equal to 1, not 0 (option)\n",
        "\n  run.engine: 'rai' is not one of: ",
    )


def test_a_mistake_in_a_finished_run_loses_nothing(rpo, place):
    """A wrong option on a run with rows changes no byte of it."""
    assert rpo("generate", place.run, *place.options).code == 0
    before = {path: path.read_bytes() for path in place.run.rglob("*") if path.is_file()}

    done = rpo("generate", place.run, *place.options, "--steps", 0)

    assert_told(done, 2, "generate.steps")
    assert {path: path.read_bytes() for path in place.run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("step", ["critique", "edit", "build-pairs"])
def test_a_step_without_pictures_says_which_step_makes_them(rpo, place, step):
    """Else it would end well with 0 of 0 rows, and with an empty dataset."""
    open_line(place.run, preset="shapes").record()
    before = files(place.run)

    done = rpo(step, place.run)

    assert_told(done, 2, "there are no pictures", f"rpo generate {place.run}")
    assert files(place.run) == before


def test_edits_without_critiques_are_refused(rpo, place):
    open_line(place.run, preset="shapes")
    assert rpo("generate", place.run, *place.options).code == 0

    done = rpo("edit", place.run, "--preset", "shapes", "--mix")

    assert_told(done, 2, "there are no critiques", f"rpo critique {place.run}")


def test_a_run_that_another_process_works_on_is_refused(rpo, place):
    """The lock is held by the kernel for a process; here by this one, through another file handle."""
    assert rpo("generate", place.run, *place.options).code == 0

    with stage_lock(place.run / "logs", "generate", None):
        done = rpo("generate", place.run, *place.options)

    assert_told(done, 1, "generate")


def test_a_directory_that_cannot_be_written_is_told(rpo, place):
    """/proc refuses new files to everyone, root too."""
    done = rpo("generate", "/proc/rpo-run", *place.options)

    assert_told(done, 1, "/proc/rpo-run")
    assert rpo("init", "/proc/rpo-init").code == 1


def test_the_real_command_ends_with_the_same_code_and_no_traceback(desk):
    """The same through the installed entry point and a real process."""
    command = [Path(sys.executable).with_name("rpo"), "generate", "RUN", *MODEL, "--prompts", "none.txt"]

    done = subprocess.run(command, capture_output=True, text=True, cwd=desk)

    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"error: .+\nhint: .+\n", done.stderr)
