"""The whole line on the embedded models: few rows, few steps, real files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from rpo_cli import build_pairs, fine_tune, open_line, plan, registry, run, run_stage, status
from rpo_cli.errors import MissingDependency, UsageError
from rpo_cli.line.dataset.contact_sheet import draw_contact_sheet
from rpo_cli.line.session import Line
from rpo_cli.line.show import story
from rpo_cli.line.work.edit import edit_work
from rpo_cli.line.work.generate import generate_work, live_images, take_prompts
from rpo_cli.pictures import decode
from rpo_cli.train import policy

SMALL: dict[str, Any] = {
    "prompts.limit": 4,
    "generate.steps": 6,
    "generate.batch_size": 4,
    "critique.batch_size": 4,
    "edit.steps": 3,
    "edit.batch_size": 4,
    "score.batch_size": 8,
    "pairs.min_margin": 0.0,
    "pairs.min_agreement": 0.0,
    "train.steps": 2,
    "train.global_batch": 2,
    "train.batch_size": 2,
    "run.rows_per_part": 3,
    "run.threads": 1,
}
PARTIPROMPTS = Path(__file__).parents[1] / "recordings" / "PartiPrompts-48.tsv"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has walked the whole line."""
    path = tmp_path_factory.mktemp("line") / "run"
    run(open_line(path, SMALL, preset="shapes"))
    return path


def pictures(path: Path, options: dict[str, Any] | None = None) -> dict[str, bytes]:
    line = open_line(path, {**SMALL, **(options or {})}, preset="shapes")
    run_stage(line, "generate")
    ids = {row["image_id"] for row in live_images(line)}
    return {row.key: row.image.bytes for row in line.store.fetch("images", ids)}


def test_the_line_makes_a_dataset_a_contact_sheet_and_an_adapter(finished: Path) -> None:
    found = status(finished)

    assert [(stage.stage, stage.missing) for stage in found.stages] == [
        ("generate", 0),
        ("critique", 0),
        ("edit", 0),
        ("score", 0),
    ]
    assert found.pairs > 0
    assert found.trained == ["default"]
    assert (finished / "contact-sheet.png").stat().st_size > 10_000
    assert (finished / "train/default/adapter/pytorch_lora_weights.safetensors").is_file()


def test_a_finished_line_called_again_builds_no_backend(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = registry.load

    def refuse(kind: str, name: str) -> Any:
        assert kind in ("presets", "engines", "objectives"), f"a finished run loaded {kind} {name}"
        return load(kind, name)

    monkeypatch.setattr(registry, "load", refuse)

    report = run(open_line(finished))

    assert [stage.made for stage in report.stages] == [0, 0, 0, 0]
    assert report.train is not None
    assert report.train.skipped


def test_a_finished_command_imports_no_heavy_library(finished: Path) -> None:
    code = (
        "import sys; from rpo_cli import open_line, run; run(open_line(sys.argv[1]));"
        "heavy = 'torch', 'diffusers', 'transformers', 'datasets', 'pandas', 'scipy';"
        "print([m for m in heavy if m in sys.modules])"
    )

    out = subprocess.run(
        [sys.executable, "-c", code, str(finished)], capture_output=True, text=True, check=True
    )

    assert out.stdout.strip() == "[]"


def test_a_contact_sheet_is_drawn_where_it_lacks_and_not_again(finished: Path, monkeypatch) -> None:
    path = finished / "contact-sheet.png"
    before = path.read_bytes()
    path.unlink()

    assert draw_contact_sheet(open_line(finished)) == path
    assert path.read_bytes() == before

    monkeypatch.delattr("rpo_cli.line.dataset.contact_sheet.draw")
    assert draw_contact_sheet(open_line(finished)) == path


def test_a_setting_that_a_training_refused_is_not_in_force_afterwards(finished: Path) -> None:
    """Else the next `rpo run` would be refused as well."""
    before = (finished / "run.json").read_bytes()

    with pytest.raises(UsageError, match=r"beta 500\.0 → 10\.0"):
        fine_tune(open_line(finished, {"train.beta": 10.0}))

    assert (finished / "run.json").read_bytes() == before


def test_a_setting_whose_package_is_missing_is_not_in_force_afterwards(finished: Path, monkeypatch) -> None:
    monkeypatch.setattr(policy, "find_spec", lambda name: None)
    before = (finished / "run.json").read_bytes()

    with pytest.raises(MissingDependency):
        fine_tune(open_line(finished, {"train.loggers": ("wandb",), "train.name": "logged"}))

    assert (finished / "run.json").read_bytes() == before


def refused_after(line: Line, others: Callable[[Line], None]) -> None:
    with line.recorded():
        others(line)
        raise UsageError("refused", "")


def test_what_others_record_while_a_training_is_refused_stays(tmp_path: Path) -> None:
    """Hours may lie between the start of a training and what refuses it."""
    open_line(tmp_path, {"pairs.min_margin": 0.25}).record()
    line = open_line(tmp_path, {"train.beta": 7.0})

    with pytest.raises(UsageError, match="refused"):
        refused_after(line, lambda other: other.record(imports={"a": {"source": "b"}}))

    manifest = json.loads((tmp_path / "run.json").read_text())
    assert manifest["options"] == {"pairs.min_margin": 0.25}
    assert manifest["imports"] == {"a": {"source": "b"}}


def test_a_refusal_in_a_folder_that_was_no_run_makes_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="refused"):
        refused_after(open_line(tmp_path, {"train.beta": 7.0}), lambda line: None)

    with pytest.raises(UsageError, match="no run here"):
        open_line(tmp_path, create=False)


def test_the_settings_and_their_origins_stand_in_the_manifest(finished: Path) -> None:
    manifest = json.loads((finished / "run.json").read_text())

    assert manifest["settings"]["generate"]["steps"] == 6
    assert manifest["origins"]["generate.guidance"] == "preset shapes"
    assert manifest["origins"]["train.rank"] == "default"
    assert all(len(revision) == 64 for revision in manifest["models"].values())


def test_an_option_is_an_earlier_option_to_the_next_command(tmp_path: Path) -> None:
    take_prompts(open_line(tmp_path / "run", SMALL, preset="shapes"))
    first = json.loads((tmp_path / "run/run.json").read_text())["origins"]["generate.steps"]

    again = open_line(tmp_path / "run").resolved.origins["generate.steps"]

    assert (first, again) == ("option", "earlier option")


def test_a_later_command_keeps_to_the_options_of_an_earlier_one(finished: Path) -> None:
    line = open_line(finished)

    assert line.settings.generate.steps == 6
    assert run_stage(line, "generate").made == 0


def test_a_changed_edit_setting_makes_only_edits_wanted_again(finished: Path) -> None:
    line = open_line(finished, {"edit.steps": 4})

    before = {item.stage: item.to_make for item in plan(line, ["critique", "edit"])}

    assert before["critique"] == 0
    assert before["edit"] > 0


def test_neither_order_nor_neighbours_change_a_picture(tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    more = tmp_path / "more.txt"
    few.write_text("a large red circle on the left of a white background\n")
    more.write_text("a small blue star\n\nxyzzy\na large red circle on the left of a white background\n")
    options = {"prompts.limit": None, "generate.images_per_prompt": 1}

    alone = pictures(tmp_path / "alone", {**options, "prompts.file": str(few)})
    together = pictures(tmp_path / "together", {**options, "prompts.file": str(more)})

    (key,) = alone
    # at another place in its batch a picture may round otherwise
    ours, theirs = (np.asarray(decode(found[key]), dtype=int) for found in (alone, together))
    assert np.abs(ours - theirs).max() <= 1


def test_a_batch_that_does_not_fit_is_halved_and_the_rows_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rpo_cli.backends.generator import DiffusersGenerator

    generate = DiffusersGenerator.generate

    def tight(self: Any, prompts: Any, seeds: Any) -> Any:
        if len(prompts) > 2:
            raise MemoryError("CUDA out of memory")
        return generate(self, prompts, seeds)

    monkeypatch.setattr(DiffusersGenerator, "generate", tight)
    line = open_line(tmp_path / "run", SMALL, preset="shapes")

    report = run_stage(line, "generate")

    assert report.made == report.wanted == 8
    rows = line.store.fetch("images", generate_work(line).keys)
    assert {row.batch_size for row in rows} == {2}


def test_a_black_picture_is_a_reject_with_a_reason_and_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rpo_cli.backends.generator import DiffusersGenerator

    monkeypatch.setattr(DiffusersGenerator, "generate", lambda self, prompts, seeds: [None] * len(prompts))
    line = open_line(tmp_path / "run", SMALL, preset="shapes")

    first = run_stage(line, "generate")
    monkeypatch.undo()
    second = run_stage(line, "generate")
    retried = run_stage(line, "generate", retry_rejects=True)

    assert (first.made, first.rejects) == (0, {"black_image": 8})
    assert (second.made, second.rejected) == (0, 8)
    assert (retried.made, retried.rejected) == (8, 0)


def test_strategy_seeds_needs_no_critic_and_no_editor(tmp_path: Path) -> None:
    options = {**SMALL, "pairs.strategy": "seeds", "critique.critic": "/nowhere", "edit.editor": "/nowhere"}
    line = open_line(tmp_path / "run", options, preset="shapes")

    run_stage(line, "generate")
    run_stage(line, "score")
    report = build_pairs(line)

    assert report.candidates > 0


def test_counter_edits_become_pairs_of_their_own_kind_and_change_no_other(
    finished: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    before = rows_of(path)
    line = open_line(path, {"edit.counter_edits": 1})
    wanted = [task.payload for task in edit_work(line).tasks() if task.payload.purpose == "counter"]
    assert wanted

    run(line, until="build-pairs")

    made = [row for row in line.store.fetch("edits", edit_work(line).keys) if row.purpose == "counter"]
    assert {(row.image_sha256, row.instruction) for row in made} == {
        (want.source.image_sha256, want.chain[0]) for want in wanted
    }
    after = rows_of(path)
    counters = [row for row in after if row["pair_kind"] == "counter"]
    assert [row for row in after if row["pair_kind"] != "counter"] == before
    assert counters
    for row in counters:
        assert (row["reversed"], row["label_0"]) == (False, float(row["edited"] == 1))
        told = json.loads(row["provenance"])
        assert (told["critique_id"], told["b"]["purpose"]) == (None, "counter")
    assert "kind `counter`" in (path / "dataset" / "README.md").read_text()
    chapters = story(path, made[0].edit_id).chapters
    (shown,) = [chapter.told for chapter in chapters if chapter.asked]
    assert (shown["purpose"], shown["instruction_of"].split()[0]) == ("counter", "critique")


def rows_of(path: Path) -> list[dict[str, Any]]:
    """A run's dataset without the columns that count neighbours."""
    files = sorted((path / "dataset" / "data").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    kept = [{k: v for k, v in row.items() if k != "num_example_per_prompt"} for row in rows]
    return sorted(kept, key=lambda row: row["ranking_id"])


def test_shards_share_the_work_without_overlap(tmp_path: Path) -> None:
    line = open_line(tmp_path / "run", SMALL, preset="shapes")

    reports = [run_stage(line, "generate", shard=(index, 3)) for index in range(3)]

    assert sum(report.made for report in reports) == 8
    assert run_stage(line, "generate").made == 0


@pytest.mark.slow
def test_sigterm_commits_what_is_whole_and_exits_143(tmp_path: Path) -> None:
    slow = {**SMALL, "generate.steps": 400, "run.rows_per_part": 1000}  # minutes of work, one part
    sets = [f"--set={name}={json.dumps(value)}" for name, value in slow.items() if name != "prompts.limit"]
    command = [str(Path(sys.executable).parent / "rpo"), "generate", str(tmp_path / "run")]
    command += ["--preset", "shapes", *sets]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    while not (tmp_path / "run/run.json").is_file() and process.poll() is None:
        time.sleep(0.2)
    time.sleep(30)
    os.kill(process.pid, signal.SIGTERM)
    process.wait(timeout=300)

    assert process.returncode == 143
    line = open_line(tmp_path / "run")
    assert len(line.store.keys("images")) % 4 == 0  # whole batches


@pytest.mark.slow
def test_partiprompts_run_through_generate_and_critique(tmp_path: Path) -> None:
    options = {**SMALL, "prompts.file": str(PARTIPROMPTS), "prompts.column": "Prompt"}
    del options["prompts.limit"]
    line = open_line(tmp_path / "run", options, preset="shapes")

    made = run_stage(line, "generate")
    told = run_stage(line, "critique")

    assert made.made == made.wanted == 96
    assert told.made + told.rejected == told.wanted == 96
