"""What is said of a run ahead is what the run then does; `rpo plan` asks nobody and writes nothing."""

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from rpo_cli import open_line, plan, run, run_stage
from rpo_cli.errors import UsageError
from rpo_cli.line.imports.run import import_source
from rpo_cli.line.preflight import NoModel
from rpo_cli.line.rates import keep_rate
from rpo_cli.line.run import forecast, steps_of
from rpo_cli.line.run_plan import PACE, plan_run
from rpo_cli.line.work.edit import AT_MOST
from rpo_cli.line.work.score import SUBJECTS
from rpo_cli.recipes.weights import HUB_MODELS

SMALL: dict[str, Any] = {
    "prompts.limit": 3,
    "generate.steps": 6,
    "critique.batch_size": 4,
    "edit.steps": 3,
    "pairs.min_margin": 0.0,
    "pairs.min_agreement": 0.0,
    "run.threads": 1,
}
UNTIL = ("generate", "critique", "edit", "build-pairs")


def opened(path: Path, **options: Any) -> Any:
    return open_line(path, {**SMALL, **options}, preset="shapes")


def said(plans: Any) -> dict[str, tuple[int, int, int]]:
    return {item.stage: (item.wanted, item.present, item.to_make) for item in plans}


def counted(stages: Any) -> dict[str, tuple[int, int]]:
    """Of a real run: rows wanted and present, of `score` all rewards together."""
    return {item.stage: (item.wanted, item.present) for item in stages}


def agree(path: Path, until: str, **options: Any) -> None:
    """The numbers of a dry run are those that the real one reports."""
    line = opened(path, **options)
    ahead = said(forecast(line, steps_of(line, until)))
    report = run(opened(path, **options), until)
    scores = [numbers for name, numbers in ahead.items() if name.startswith("score ")]
    ahead = {name: numbers for name, numbers in ahead.items() if not name.startswith("score ")}
    if scores:
        ahead["score"] = tuple(map(sum, zip(*scores, strict=True)))  # type: ignore[assignment]
    done = counted(report.stages)
    assert {name: numbers[:2] for name, numbers in ahead.items()} == done
    made = {item.stage: item.made for item in report.stages}
    rejects = {item.stage: item.rejected for item in report.stages}
    assert {name: numbers[2] for name, numbers in ahead.items()} == {
        name: made[name] + rejects[name] for name in made
    }


def test_step_after_step_a_dry_run_says_what_the_run_does(tmp_path: Path) -> None:
    options = {"edit.counter_edits": 1}
    for until in UNTIL:
        agree(tmp_path / "run", until, **options)


def test_pairs_of_seeds_are_planned_without_critic_and_editor(tmp_path: Path) -> None:
    options = {"pairs.strategy": "seeds"}
    agree(tmp_path / "run", "build-pairs", **options)
    assert not (tmp_path / "run" / "critiques").exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures with their prompts, as somebody's image folder."""
    source = tmp_path / "source"
    source.mkdir()
    for n in range(2):
        Image.new("RGB", (64, 64), (200 * n, 30, 90)).save(source / f"{n}.png")
    lines = [json.dumps({"file_name": f"{n}.png", "text": f"a red circle {n}"}) for n in range(2)]
    (source / "metadata.jsonl").write_text("\n".join(lines))
    return source


def test_a_run_of_imports_alone_is_planned_without_generating(tmp_path: Path, folder: Path) -> None:
    import_source(open_line(tmp_path / "run", preset="shapes"), folder)
    line = open_line(tmp_path / "run", preset="shapes")
    steps = steps_of(line, "critique")
    ahead = said(forecast(line, steps))

    report = run(open_line(tmp_path / "run", preset="shapes"), "critique")

    assert steps == ("critique",)
    assert ahead == {"critique": (2, 0, 2)}
    assert counted(report.stages) == {"critique": (2, 0)}


def test_imports_beside_prompts_are_planned_with_both(tmp_path: Path, folder: Path) -> None:
    import_source(opened(tmp_path / "run"), folder)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a large red circle\n")
    agree(tmp_path / "run", "critique", **{"prompts.file": str(prompts)})


def test_a_dry_run_of_a_shard_counts_the_shard(tmp_path: Path) -> None:
    line = opened(tmp_path / "run")
    parts = [plan(line, ["generate"], shard=(index, 2))[0] for index in range(2)]
    (whole,) = plan(line, ["generate"])
    assert sum(part.wanted for part in parts) == whole.wanted == 6
    line.planned = None
    report = run_stage(opened(tmp_path / "run"), "generate", shard=(0, 2))
    assert report.wanted == parts[0].wanted


def test_a_dry_run_counts_rejects_that_are_to_be_tried_again(tmp_path: Path) -> None:
    from rpo_cli.line.work.generate import generate_work
    from rpo_cli.records import Reject

    more = {"stage": "generate", "input_id": "", "detail": "", "settings": ""}
    line = opened(tmp_path / "run")
    run_stage(line, "generate", limit=4)
    key = sorted(generate_work(line).keys - line.store.keys("images"))[0]
    line.store.commit("rejects", [Reject(key_of=key, reason="black_image", **more)])

    (final,) = plan(opened(tmp_path / "run"), ["generate"])
    (again,) = plan(opened(tmp_path / "run"), ["generate"], retry_rejects=True)

    assert (final.present, final.rejected, final.to_make) == (4, 1, 1)
    assert (again.present, again.rejected, again.to_make) == (4, 1, 2)


def test_without_rows_edits_are_counted_from_stated_yields(tmp_path: Path) -> None:
    options = {"edit.mode": "each", "edit.edits_per_image": 2, "edit.counter_edits": 1}
    line = opened(tmp_path / "run", **options)
    ahead = {item.stage: item for item in forecast(line, steps_of(line, "build-pairs"))}

    floor = 6  # a picture each, under an empty instruction
    assert ahead["edit"].wanted == 6 * (2 * line.settings.critique.max_instructions + 1) + floor
    assert ahead["edit"].basis == AT_MOST.format(each=7)
    assert ahead["score clip"].wanted == 6 + ahead["edit"].wanted - floor
    assert ahead["score clip"].basis == SUBJECTS


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection leaves this process, and the hub's library believes that it may ask."""
    from huggingface_hub import constants

    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"the network was asked: {arguments}")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    (tmp_path / "prompts.txt").write_text("a cat\na dog\na bird\n")
    return str(tmp_path / "prompts.txt")


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_fresh_plan_asks_nobody_and_writes_nothing(tmp_path: Path, prompts: str, deaf: None) -> None:
    found = plan_run(open_line(tmp_path / "run", {"prompts.file": prompts}, preset="sd15"))

    steps = {item.stage: item for item in found.steps}
    assert list(steps) == ["generate", "critique", "edit", "score clip", "score vqascore", "pairs", "train"]
    assert (steps["generate"].wanted, steps["critique"].wanted, steps["edit"].wanted) == (12, 12, 36)
    assert steps["generate"].bytes == round(12 * 512 * 512 * 1.5)
    assert steps["generate"].seconds is None
    assert steps["generate"].time == f"unknown: rpo generate {tmp_path / 'run'} --probe K measures it"
    assert {model.ref: (model.here, model.bytes, model.license) for model in found.models} == {
        ref: (False, HUB_MODELS[ref].download, HUB_MODELS[ref].license)
        for ref in {model.ref for model in found.models}
    }
    assert found.training_memory == 5_640_000_000
    assert ["a download of" in text for text in found.network] == [True] * 4
    assert not (tmp_path / "run").exists()


def test_a_plan_of_a_run_half_done_knows_its_pace_and_changes_nothing(tmp_path: Path, deaf: None) -> None:
    path = tmp_path / "run"
    run(opened(path), "critique")
    keep_rate(opened(path).store, "edit", 2.0)
    before = files(path)

    found = plan_run(opened(path))

    steps = {item.stage: item for item in found.steps}
    assert (steps["generate"].to_make, steps["critique"].to_make) == (0, 0)
    assert (steps["edit"].seconds, steps["edit"].time) == ((steps["edit"].to_make or 0) / 2.0, PACE)
    assert all(model.here and model.license == "Apache-2.0" and model.memory for model in found.models)
    assert found.network == []
    assert (found.training_memory or 0) > 10**8
    assert files(path) == before


def test_models_without_a_name_are_refused_as_commands_refuse_them(tmp_path: Path, prompts: str) -> None:
    with pytest.raises(
        NoModel, match=r"generate\.generator, critique\.critic, edit\.editor, score\.rewards"
    ):
        plan_run(open_line(tmp_path / "run", {"prompts.file": prompts}))
    with pytest.raises(UsageError, match="no such model folder"):
        plan_run(open_line(tmp_path / "run", {"generate.generator": "no/such/model"}, preset="shapes"))


def test_a_model_in_the_hubs_cache_is_here(
    tmp_path: Path, prompts: str, deaf: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "0" * 39 + "1"
    home = tmp_path / "hub" / "models--openai--clip-vit-large-patch14"
    snapshot = home / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    (snapshot / "config.json").write_text("{}")
    save_file({"w": np.zeros((5, 7), dtype=np.float32)}, snapshot / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)

    found = plan_run(open_line(tmp_path / "run", {"prompts.file": prompts}, preset="sd15"))

    (clip,) = [model for model in found.models if model.role == "reward clip"]
    assert (clip.here, clip.bytes, clip.license) == (
        True,
        (snapshot / "model.safetensors").stat().st_size,
        "MIT",
    )
    assert clip.memory == 35 * 2  # bfloat16
    assert (
        "the hub: openai/clip-vit-large-patch14, which commit it is; what is cached will do"
        in found.network
    )


def test_servers_and_datasets_are_told_and_not_asked(tmp_path: Path, deaf: None) -> None:
    options = {
        "prompts.dataset": "somebody/prompts",
        "prompts.file": "default",
        "critique.critic_url": ("http://127.0.0.1:9/v1",),
        "critique.backend": "openai",
    }
    found = plan_run(open_line(tmp_path / "run", options, preset="sd15"), "critique")

    assert [(item.stage, item.wanted, item.to_make) for item in found.steps] == [
        ("generate", None, None),
        ("critique", None, None),
    ]
    assert "the hub: prompts of the dataset somebody/prompts" in found.network
    assert "the critic's server: http://127.0.0.1:9/v1" in found.network
