"""The commands on a run: what they pass on, print and leave behind."""

import json
import re
import subprocess
import sys
import typing
from shutil import copytree, ignore_patterns

import pytest
from typer.models import OptionInfo

from rpo_cli.cli import app
from rpo_cli.line.session import open_line
from rpo_cli.line.work import base
from rpo_cli.shapes.preset import MODELS
from rpo_cli.store import open_store

PAINTER = "rpo_cli.line.work.base.build_backend"


def test_version_and_bare_call(rpo):
    """`rpo --version` is one line; `rpo` alone shows the commands."""
    bare = rpo()

    assert rpo("--version").out.startswith("rpo ")
    assert "build-pairs" in bare.out
    assert (bare.code, bare.err) == (0, "")


@pytest.mark.parametrize("command", app.COMMANDS)
def test_every_command_has_help_with_an_example(rpo, command):
    done = rpo(command, "--help")

    assert done.code == 0
    assert f"rpo {command}" in done.out


@pytest.mark.parametrize("command", app.COMMANDS)
def test_help_on_a_narrow_terminal_spells_every_option_out(rpo, command, monkeypatch):
    """A name that is cut off cannot be typed."""
    monkeypatch.setenv("COLUMNS", "80")

    said = rpo(command, "--help-all").out

    assert options_of(command) <= set(re.findall(r"--[a-z][a-z-]*", said))


def test_the_list_of_commands_says_whole_sentences(rpo, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    said = " ".join(rpo("--help").out.split())

    for entry in app.commands().values():
        assert entry.help in said


@pytest.mark.parametrize("command", app.COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(command):
    entry = app.COMMANDS[command]

    assert entry.help == entry.function().__doc__.partition("\n\n")[0]


MODULES = {entry.place.partition(":")[0] for entry in app.COMMANDS.values()}
LOADED = f"""
import sys
from rpo_cli.cli.app import call
code = call(sys.argv[1:])
print(code, *sorted({MODULES!r} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "loaded"),
    [
        (["--help"], "0"),
        (["--version"], "0"),
        (["statsu", "run"], "2"),
        (["run", "--help"], "0 rpo_cli.cli.run"),
        (["list", "engines"], "0 rpo_cli.cli.list"),
        (["--quiet", "status", "nowhere"], "2 rpo_cli.cli.status"),
        (["plan", "--help-all"], "0 rpo_cli.cli.plan"),
    ],
)
def test_a_call_loads_its_own_command_alone(tmp_path, words, loaded):
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    assert done.stderr.splitlines()[-1] == loaded


def test_a_command_from_elsewhere_stands_in_help_and_runs(rpo, monkeypatch, tmp_path):
    (tmp_path / "captions.py").write_text(
        'import typer\n\ndef caption(run: str, short: bool = False) -> None:\n    """Describe RUN."""\n'
        "    print(run, short)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    theirs = {"caption": app.Entry("captions:caption", "Describe RUN.")}
    monkeypatch.setattr(app, "commands", lambda: app.COMMANDS | theirs)

    assert ["caption", "Describe", "RUN."] in [line.split() for line in rpo("--help").out.splitlines()]
    assert rpo("caption", "here", "--short").out == "here True\n"
    assert "--short" in rpo("caption", "--help").out
    assert "Did you mean 'caption'?" in rpo("captoin", "here").err


def options_of(command):
    """Every flag of a command, by its parameters' annotations."""
    flags = set()
    for name, hint in typing.get_type_hints(app.COMMANDS[command].function(), include_extras=True).items():
        for info in (part for part in getattr(hint, "__metadata__", ()) if isinstance(part, OptionInfo)):
            if info.hidden:  # an old name
                continue
            told = (info.default, *(info.param_decls or ()))
            named = [word for word in told if isinstance(word, str) and word.startswith("--")]
            flags |= set(named or [f"--{name.replace('_', '-')}"])
    return flags


def test_a_plan_of_a_training_needs_configurations_alone(rpo, tmp_path):
    """So that a model is chosen before its gigabytes are here."""
    model = tmp_path / "model"
    copytree(MODELS / "text-to-image", model, ignore=ignore_patterns("*.safetensors"))
    open_line(tmp_path / "run").record()

    done = rpo("train", tmp_path / "run", "--model", model, "--dry-run")

    assert (done.code, done.err) == (0, f"next: rpo train {tmp_path / 'run'} --model {model}\n")
    assert "memory, estimated" in done.out


def test_generate_makes_what_is_missing_and_nothing_twice(rpo, place):
    """A second call makes no row; a third, with one more image per prompt, makes just those."""
    first = rpo("generate", place.run, *place.options)
    second = rpo("generate", place.run)
    third = rpo("generate", place.run, "--images-per-prompt", 3)

    assert first.out.startswith("generate: 4 of 4 rows (0 were there, 4 made)")
    assert second.out.startswith("generate: 4 of 4 rows (4 were there, 0 made)")
    assert third.out.startswith("generate: 6 of 6 rows (4 were there, 2 made)")
    assert len(open_store(place.run).keys("images")) == 6


def test_data_goes_to_stdout_and_progress_to_stderr(rpo, place):
    done = rpo("generate", place.run, *place.options)

    assert done.out.count("\n") == 1
    assert done.err.splitlines()[:2] == ["prompts.txt: 2 rows: 2 taken", "generate 0/4"]
    assert done.err.splitlines()[-2].endswith("done")
    assert done.err.splitlines()[-1].startswith("next: rpo critique ")


@pytest.mark.parametrize("where", ["before", "after"])
def test_json_is_one_document_before_or_after_the_command(rpo, place, where):
    call = ["--json", "generate"] if where == "before" else ["generate", "--json"]

    report = json.loads(rpo(*call, place.run, *place.options).out)

    assert report["stage"] == "generate"
    assert (report["wanted"], report["made"], report["rejects"]) == (4, 4, {})


def test_quiet_says_nothing(rpo, place):
    done = rpo("generate", "--quiet", place.run, *place.options)

    assert (done.code, done.out, done.err) == (0, "", "")


def test_rejects_are_counted_and_a_stage_that_accepted_nothing_fails(rpo, place, monkeypatch):
    """Every picture black: the report is still printed, the exit code is 1, and the rejects are final."""
    painter = base.build_backend
    monkeypatch.setattr(PAINTER, lambda *parts, **options: type(painter())(censored=True))
    done = rpo("generate", place.run, *place.options)
    again = rpo("generate", place.run, *place.options)

    assert (done.code, again.code) == (1, 1)
    assert "4 rejected" in done.out
    assert done.err.splitlines()[-2].startswith("error: generate: none of 4 rows was accepted")

    monkeypatch.setattr(PAINTER, painter)
    kept = rpo("generate", place.run, *place.options)
    retried = rpo("generate", place.run, *place.options, "--retry-rejects")

    assert kept.code == 1
    assert (retried.code, retried.out.split(",")[0]) == (0, "generate: 4 of 4 rows (0 were there")


def test_dry_run_plans_and_makes_no_row(rpo, place):
    done = rpo("generate", place.run, *place.options, "--dry-run", "--json")

    (plan,) = json.loads(done.out)
    assert (plan["stage"], plan["wanted"], plan["to_make"]) == ("generate", 4, 4)
    assert str(place.model) in plan["models"][0]
    assert not place.run.exists(), "a dry run writes nothing"


def test_probe_makes_a_few_rows_and_extrapolates(rpo, place):
    done = rpo("generate", place.run, *place.options, "--batch-size", 1, "--probe", 3, "--json")

    probe = json.loads(done.out)
    assert (probe["rows"], probe["remaining"]) == (3, 1)
    assert probe["rows_per_second"] > 0
    assert len(open_store(place.run).keys("images")) == 3
    assert probe["recorded"]


def test_a_probe_of_few_rows_says_what_its_rate_is_and_keeps_none(rpo, place):
    done = rpo("generate", place.run, *place.options, "--batch-size", 2, "--probe", 3)

    said = "a rate of 3 rows, fewer than two full rounds (4 rows), loading included: not recorded"
    assert done.out.splitlines()[1] == said
    assert not (place.run / "logs" / "rates.json").exists()


def test_shards_share_the_rows_and_merge_joins_them(rpo, place):
    """Two shards on two run directories hold every row between them, each once."""
    runs = [place.run.with_name(f"shard-{index}") for index in range(2)]
    for index, run in enumerate(runs):
        # a shard may hold no row of so small a run, which is no failure
        assert rpo("generate", run, *place.options, "--shard", f"{index}/2").code == 0
    parts = [open_store(run).keys("images") for run in runs]

    done = rpo("merge", place.run, *runs)

    assert done.code == 0
    assert parts[0].isdisjoint(parts[1])
    assert open_store(place.run).keys("images") == parts[0] | parts[1]
    assert rpo("generate", place.run, *place.options).out.startswith("generate: 4 of 4 rows (4 were there")


def test_status_counts_old_rows_and_prune_drops_them(rpo, place):
    """Rows of older settings are counted apart; --prune deletes them and no other."""
    rpo("generate", place.run, *place.options)
    rpo("generate", place.run, *place.options, "--steps", 9)

    before = json.loads(rpo("status", place.run, "--json").out)["stages"][0]
    pruned = rpo("status", place.run, "--prune", "--json")
    after = json.loads(pruned.out)["stages"][0]

    assert (before["wanted"], before["present"], before["stale"]) == (4, 4, 4)
    assert (after["wanted"], after["present"], after["stale"]) == (4, 4, 0)


def test_compact_joins_parts_and_keeps_every_row(rpo, place):
    for count in (1, 2, 3):
        rpo("generate", place.run, *place.options, "--images-per-prompt", count)
    keys = open_store(place.run).keys("images")

    assert rpo("status", place.run, "--compact").code == 0

    assert len(open_store(place.run).parts("images")) == 1
    assert open_store(place.run).keys("images") == keys


def test_what_a_model_wrote_cannot_steer_the_terminal(rpo, place):
    """A folder name with an escape sequence comes out without it."""
    model = place.model.rename(place.model.with_name("mo\x1b[31mdel"))
    options = ["--prompts", place.prompts, "--generator", model]

    done = rpo("generate", place.run, *options, "--dry-run")

    assert "\x1b" not in done.out + done.err
    assert "model (" in done.out
