"""Training in rounds: what is refused, what a round is made of, and whole trainings that are killed."""

import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import time
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from rpo_cli import build_pairs, open_line, plan_rounds, registry, run, run_stage, status, train_rounds
from rpo_cli.errors import RpoError, SettingsError, UsageError
from rpo_cli.files import TEMPORARY
from rpo_cli.line.rounds.checks import reference_of
from rpo_cli.line.rounds.measurements import RewardNumbers, RoundNumbers, rewards_of, standard_error
from rpo_cli.line.rounds.round import (
    InRound,
    min_margin,
    open_round,
    round_settings,
    trained_folder,
    winners,
    write_prompts,
)
from rpo_cli.line.rounds.train import LORA_FILE, start_of
from rpo_cli.line.training import fine_tune
from rpo_cli.line.work.generate import generate_work, parent_prompts
from rpo_cli.pictures import decode, encode_png
from rpo_cli.records import Image, ImageData, RewardScore
from rpo_cli.text import split_of
from rpo_cli.train.composition import composed, in_rounds
from rpo_cli.train.data.pairs import TrainingPair

PRELOAD = ["diffusers", "transformers", "peft", "rpo_cli.line.rounds.train", "rpo_cli.train.loop"]
CLOCKED = ("run.json", "done.json", "prompts.jsonl", "rates.json")
SMALL: dict[str, Any] = {
    "prompts.limit": 3,
    "generate.steps": 2,
    "generate.batch_size": 2,
    "score.batch_size": 4,
    "pairs.strategy": "seeds",
    "pairs.min_margin": 0.0,
    "pairs.min_agreement": 0.0,
    "rounds.images_per_prompt": 2,
    "rounds.min_margin": 0.0,
    "train.steps": 2,
    "train.save_every": 1,
    "train.global_batch": 2,
    "train.batch_size": 2,
    "train.rank": 4,
    "run.rows_per_part": 2,
    "run.threads": 1,
    "train.rounds": 2,
}


def opened(path: Path, **more: Any) -> Any:
    """A run with small settings; in the names of settings "__" stands for the dot."""
    options = {**SMALL, **{name.replace("__", "."): value for name, value in more.items()}}
    return open_line(path, options, preset="shapes")


# --- refused at the door --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"train__full": True}, "train.full"),
        ({"score__rewards": ()}, "no model is named for score.rewards"),
        ({"train__method": "npo"}, "train.method: npo learns what to keep away from"),
        ({"train__method": "rank-dpo"}, "train.list_size: a round pairs best and worst"),
        ({"rounds__images_per_prompt": 1}, "rounds.images_per_prompt: one picture"),
        ({"train__method": "sft", "rounds__reference": "base"}, "rounds.reference: sft runs no reference"),
        ({"train__reference_every": 2, "rounds__reference": "base"}, "a reference that moves"),
        ({"train__method": "sapo", "rounds__reference": "previous"}, "a reference that moves"),
        ({"train__method": "spin", "rounds__reference": "base"}, "is what made the losers"),
        ({"train__method": "spin", "rounds__min_margin": 0.5}, "spin knows its winners"),
        ({"train__reference_draws": 2, "rounds__reference": "previous"}, "train.reference_draws"),
        ({"train__method": "ppod", "train__reference_draws": 2}, "train.reference_draws"),
        ({"rounds__strengths": (0.5,)}, "rounds.strengths: only sapo"),
        ({"train__method": "spin", "rounds__buffer": 5}, "rounds.buffer: only sapo"),
    ],
)
def test_what_contradicts_rounds_is_refused_before_anything_is_made(
    tmp_path: Path, wrong: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError) as caught:
        train_rounds(opened(tmp_path / "run", **wrong))
    assert told in caught.value.message
    assert not (tmp_path / "run").exists()


def test_all_contradictions_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        train_rounds(opened(tmp_path, train__full=True, rounds__images_per_prompt=1, rounds__buffer=1))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("method", ["spin", "sapo"])
def test_self_play_without_rounds_is_refused(tmp_path: Path, method: str) -> None:
    with pytest.raises(SettingsError, match=f"train.rounds: {method} makes its losers itself"):
        fine_tune(opened(tmp_path, train__method=method, train__rounds=0))


@pytest.mark.parametrize("method", ["spin", "sapo"])
def test_self_play_needs_winners(tmp_path: Path, method: str) -> None:
    line = opened(tmp_path, train__method=method, rounds__min_margin=None)
    for attempt in (train_rounds, plan_rounds):
        with pytest.raises(UsageError, match=f"no dataset yet, and {method} learns from its winners"):
            attempt(line)


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such model folder"):
        train_rounds(opened(tmp_path / "run", train__model=str(tmp_path / "none")))


@pytest.mark.slow  # loads diffusers, which knows its schedulers
def test_a_scheduler_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'DDIMScheduler'"):
        train_rounds(opened(tmp_path / "run", generate__scheduler="DDIMSchduler"))


def test_a_setting_that_was_given_for_another_method_falls(tmp_path: Path) -> None:
    line = opened(tmp_path, rounds__reference="base")
    line.record(training=True)
    again = open_line(tmp_path, {"train.method": "sft", "train.rounds": 2})
    assert again.settings.rounds.reference is None
    assert [row.state for row in plan_rounds(again)] == ["to do", "to do"]


def test_the_name_of_an_ordinary_training_is_not_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "default"
    folder.mkdir(parents=True)
    (folder / "done.json").write_text("{}")
    with pytest.raises(UsageError, match="'default' was not made in rounds"):
        train_rounds(opened(tmp_path))


# --- what a round is made of ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "base"),
        ({"rounds__reference": "previous"}, "previous"),
        ({"train__method": "ipo"}, "base"),
        ({"train__method": "ppod"}, "previous"),
        ({"train__method": "ppod", "rounds__reference": "base"}, "base"),
        ({"train__method": "spin"}, "previous"),
        ({"train__method": "sapo"}, "moving"),
        ({"train__reference_every": 3}, "moving"),
        ({"train__method": "mapo"}, ""),
    ],
)
def test_the_reference_of_a_round_is_what_the_method_says(
    tmp_path: Path, more: dict[str, Any], expected: str
) -> None:
    line = opened(tmp_path, **more)
    assert reference_of(line, composed(line.settings.train)) == expected


@pytest.mark.parametrize(
    ("method", "asked", "margin"),
    [("dpo", None, 1.0), ("dpo", 0.0, 0.0), ("dpo", 0.5, 0.5), ("sapo", None, 0.0), ("sapo", 0.5, 0.5)],
)
def test_a_margin_of_0_that_is_asked_for_counts(
    tmp_path: Path, method: str, asked: float | None, margin: float
) -> None:
    assert min_margin(opened(tmp_path, train__method=method, rounds__min_margin=asked)) == margin


def test_a_round_begins_where_the_one_before_ended_and_is_another_when_that_is_another(
    tmp_path: Path,
) -> None:
    line = opened(tmp_path, rounds__reference="previous")
    adapter = trained_folder(line, 1) / "adapter"
    adapter.mkdir(parents=True)
    found = []
    for content in (b"a LoRA", b"another"):
        (adapter / LORA_FILE).write_bytes(content)
        found.append(start_of(line, 2))

    assert start_of(line, 1) is None
    assert [(start.adapter, start.reference) for start in found] == [(adapter, adapter)] * 2
    assert found[0].identity != found[1].identity
    base = start_of(opened(tmp_path, rounds__reference="base"), 2)
    assert (base.adapter, base.reference) == (adapter, None)
    assert base.identity != found[1].identity


def test_what_was_held_out_gives_winners_only_where_the_round_holds_it_out_too(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """Else the round would train on what the dataset has kept from training. Empty captions never count."""
    line = opened(tmp_path, pairs__val_fraction=0.5)
    captions = [f"prompt {number}" for number in range(20)]
    held = {text for text in captions if split_of(text, 0.5) == "validation"}
    pairs = {
        "train": [
            TrainingPair("t", "l", captions[0]),
            TrainingPair("t", "l", " "),
            TrainingPair("u", "l", captions[1]),
        ],
        "validation": [TrainingPair("v", "l", text) for text in captions],
    }
    monkeypatch.setattr("rpo_cli.train.data.pairs.split_files", lambda dataset, split: [dataset])
    monkeypatch.setattr("rpo_cli.train.data.pairs.read_pairs", lambda dataset, split: pairs[split])

    found = winners(line)

    assert 0 < len(held) < 20
    assert found["t"] == [captions[0]]
    assert set(found.get("v", ())) == held


def test_rounds_differ_in_their_seed_and_sampler_and_in_nothing_else(tmp_path: Path) -> None:
    line = opened(tmp_path)
    first, second = (round_settings(line, number, None) for number in (1, 2))
    third = round_settings(line, 3, tmp_path / "adapter")
    assert {name for name in first if first[name] != second[name]} == {"run.seed"}
    assert third.keys() - first.keys() == {"generate.lora"}
    assert len({first["run.seed"], second["run.seed"], third["run.seed"]}) == 3
    another = opened(tmp_path, train__seed=7)
    assert round_settings(another, 1, None)["run.seed"] != first["run.seed"]


@pytest.mark.parametrize(
    ("method", "strategy", "pictures", "margin", "strengths"),
    [
        ("dpo", "seeds", 4, 1.0, ()),
        ("spin", "spin", 2, 0.0, ()),
        ("sapo", "sapo", 2, 0.0, (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
    ],
)
def test_a_round_pairs_as_its_method_needs(
    tmp_path: Path, method: str, strategy: str, pictures: int, margin: float, strengths: tuple[float, ...]
) -> None:
    line = opened(tmp_path, train__method=method, rounds__images_per_prompt=None, rounds__min_margin=None)
    nested = open_round(line, 1, None).settings
    assert (nested.pairs.strategy, nested.pairs.min_margin) == (strategy, margin)
    assert (nested.generate.images_per_prompt, nested.generate.strengths) == (pictures, strengths)
    assert (nested.train.rounds, nested.train.method) == (None, method)


def test_a_presets_beta_stays_a_presets(tmp_path: Path) -> None:
    """Passed on as an option it would count as the user's own."""
    nested = open_round(opened(tmp_path, train__method="ipo"), 1, None)
    assert nested.resolved.origins["train.beta"] == "preset shapes"
    assert nested.resolved.origins["train.method"] == "option"


def test_the_model_that_is_trained_is_the_one_that_draws(tmp_path: Path) -> None:
    model = opened(tmp_path).settings.generate.generator
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    nested = open_round(opened(tmp_path / "run", train__model=str(copy)), 1, None).settings
    assert nested.generate.generator == str(copy)


def test_rounds_are_of_methods_on_pairs_only_when_a_number_is_given(tmp_path: Path) -> None:
    assert in_rounds(opened(tmp_path).settings.train)
    assert not in_rounds(opened(tmp_path, train__rounds=0).settings.train)


class Told:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def start(self, stage: str, total: int, present: int) -> None:
        self.seen.append(stage)

    def advance(self, rows: int, rejects: int) -> None: ...

    def finish(self) -> None: ...

    def note(self, text: str) -> None:
        self.seen.append(text)


def test_progress_says_which_round_it_is_of() -> None:
    told = Told()
    observer = InRound(told, 2, 5)
    observer.start("generate", 4, 0)
    observer.note("halved")
    assert told.seen == ["round 2/5 generate", "round 2/5: halved"]


def test_a_plan_counts_and_makes_nothing(tmp_path: Path) -> None:
    (first, second) = plan_rounds(opened(tmp_path / "run"))
    assert (first.number, first.state, first.pictures, first.scores) == (1, "to do", 6, 12)
    assert (second.pictures_there, second.scored, second.pairs) == (0, 0, None)
    assert not (tmp_path / "run").exists()


def test_numbers_of_a_round_by_hand(tmp_path: Path) -> None:
    """Two prompts with rewards 1, 3 and 5, 9: mean 4.5, variances 2 and 8, prompts' means 2 and 7."""
    line = opened(tmp_path, score__rewards=opened(tmp_path).settings.score.rewards[:1])
    write_prompts(line, parent_prompts(line)[:2])
    nested = open_round(line, 1, None)
    from rpo_cli.line.work.generate import take_prompts
    from rpo_cli.line.work.score import score_works

    take_prompts(nested)
    work = generate_work(nested)
    pictures = [picture(task, shade) for shade, task in enumerate(work.tasks())]
    nested.store.commit("images", pictures, group=work.group)
    (score,) = score_works(nested)
    by_prompt = sorted({row.prompt_id for row in pictures})
    values = {by_prompt[0]: iter((1.0, 3.0)), by_prompt[1]: iter((5.0, 9.0))}
    rows = [scored(task, next(values[task.payload.prompt_id])) for task in score.tasks()]
    nested.store.commit("rewards", rows, group=score.group)

    prompts, found = rewards_of(nested)

    assert {prompt: len(shas) for prompt, shas in prompts.items()} == dict.fromkeys(by_prompt, 2)
    numbers = found["clip"]
    assert (numbers.mean, numbers.basis) == (4.5, "seeds of one prompt")
    assert numbers.spread == pytest.approx(math.sqrt(5))
    assert numbers.error == pytest.approx(2.5)  # means 2 and 7: sd 5/√2, over √2
    assert standard_error([1.0]) is None


def picture(task: Any, shade: int) -> Image:
    import hashlib

    from PIL import Image as Pictures

    data = encode_png(Pictures.new("RGB", (8, 8), (shade * 20, 0, 0)))
    asked = task.payload
    return Image(
        image_id=task.key,
        prompt_id=asked.prompt_id,
        prompt=asked.prompt,
        index=asked.index,
        seed=asked.seed,
        sha256=hashlib.sha256(data).hexdigest(),
        width=8,
        height=8,
        image=ImageData(bytes=data),
        batch_size=1,
        settings="{}",
        environment="{}",
    )


def scored(task: Any, score: float) -> RewardScore:
    return RewardScore(
        score_id=task.key,
        subject="image",
        subject_id=task.input_id,
        subject_sha256=task.payload.sha256,
        prompt_id=task.payload.prompt_id,
        reward="clip",
        score=score,
        batch_size=1,
        settings="{}",
        environment="{}",
    )


def test_a_rounds_line_of_metrics_is_flat_and_leaves_out_what_was_not_measured() -> None:
    reward = RewardNumbers(1.0, None, 0.5, "seeds of one prompt")
    found = RoundNumbers(2, 3, 6, 3, 2, 0, 1, {"inside_band": 1}, {"clip": reward}, accuracy=0.75)
    row = found.row()
    assert row == {
        "split": "rounds",
        "step": 2,
        "prompts": 3,
        "pictures": 6,
        "candidates": 3,
        "pairs": 2,
        "held_out": 0,
        "noise": 1,
        "accuracy": 0.75,
        "dropped_inside_band": 1,
        "clip_mean": 1.0,
        "clip_spread": 0.5,
    }
    from dataclasses import asdict

    assert RoundNumbers.read(json.loads(json.dumps(asdict(found)))) == found


# --- whole trainings ------------------------------------------------------------------------------------


def bytes_of(path: Path) -> dict[str, Any]:
    """Every byte below `path` that neither a clock nor the place of the run decides.

    Rows count, not the parts they are in: which rows share a part depends on what a kill has left to do.
    """
    found: dict[str, Any] = {}
    for file in sorted(path.rglob("*")):
        name = str(file.relative_to(path))
        if not file.is_file() or file.suffix == ".lock" or file.name in CLOCKED:
            continue
        if file.name.startswith(TEMPORARY):  # half of a write that was killed: nobody reads it
            continue
        if file.name == "metrics.jsonl" and "/rounds/" in name:
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            found[name] = [
                {key: value for key, value in row.items() if key != "pairs_per_second"} for row in rows
            ]
        elif file.suffix == ".parquet" and file.parent.parent.name in ("images", "rewards"):
            table = pq.read_table(file).to_pylist()
            found.setdefault(str(file.parent.relative_to(path)), {}).update(
                {next(iter(row.values())): row for row in table}
            )
        else:
            found[name] = file.read_bytes()
    return found


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a dataset, so that self-play has winners."""
    path = tmp_path_factory.mktemp("rounds") / "parent"
    line = opened(path, train__rounds=None, rounds__min_margin=None)
    run_stage(line, "generate")
    run_stage(line, "score")
    assert build_pairs(line).train > 0
    return path


def copied(parent: Path, path: Path) -> Path:
    shutil.copytree(parent, path)
    return path


def tables(path: Path) -> dict[str, bytes]:
    """The parent's own tables and dataset."""
    names = ("prompts", "images", "rewards", "pairs", "rejects", "dataset")
    return {
        str(file.relative_to(path)): file.read_bytes()
        for name in names
        for file in sorted((path / name).rglob("*"))
        if file.is_file()
    }


@pytest.mark.slow
def test_two_rounds_go_on_from_each_other_and_touch_nothing_of_the_run(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied(parent, tmp_path / "run")
    before = tables(path)
    report = train_rounds(opened(path, rounds__reference="previous"))

    assert [found.number for found in report.rounds] == [1, 2]
    assert all(found.pictures == 6 and found.pairs > 0 for found in report.rounds)
    assert all(found.rewards.keys() == {"clip", "vqascore"} for found in report.rounds)
    assert tables(path) == before
    rounds = path / "train" / "default" / "rounds"
    last = rounds / "2" / "train" / "default" / "adapter" / "pytorch_lora_weights.safetensors"
    assert (report.adapter / last.name).read_bytes() == last.read_bytes()
    # the second round's policy begins as its reference: the one that the first has made
    steps = [json.loads(x) for x in (last.parents[1] / "metrics.jsonl").read_text().splitlines()]
    assert steps[0]["logit_mean"] == 0.0
    line = opened(path, rounds__reference="previous")
    lora = open_round(line, 2, rounds / "1" / "train" / "default" / "adapter")
    assert generate_work(lora).keys <= lora.store.keys("images")
    rows = [json.loads(x) for x in (path / "train/default/metrics.jsonl").read_text().splitlines()]
    assert [(row["split"], row["step"]) for row in rows] == [("rounds", 1), ("rounds", 2)]
    found = status(path)
    assert [(r.name, r.rounds, r.done) for r in found.rounds] == [("default", 2, 2)]
    assert found.trained == ["default"]
    with pytest.raises(UsageError, match="was made in rounds"):
        fine_tune(opened(path, train__rounds=0))
    with pytest.raises(UsageError, match=r"train\.steps 2 → 3"):
        train_rounds(opened(path, rounds__reference="previous", train__steps=3))
    with pytest.raises(UsageError, match="has 2 rounds already, more than 1"):
        train_rounds(opened(path, rounds__reference="previous", train__rounds=1))

    load = registry.load

    def refuse(kind: str, name: str) -> Any:
        assert kind in ("presets", "objectives"), f"a finished training loaded {kind} {name}"
        return load(kind, name)

    monkeypatch.setattr(registry, "load", refuse)
    again = train_rounds(opened(path, rounds__reference="previous"))
    assert again.skipped
    assert again.rounds == report.rounds
    walked = run(opened(path, rounds__reference="previous"))
    assert walked.train is not None
    assert walked.train.skipped


@pytest.mark.slow
def test_more_rounds_and_layouts_are_added_to_those_there_are(parent: Path, tmp_path: Path) -> None:
    whole, grown = copied(parent, tmp_path / "whole"), copied(parent, tmp_path / "grown")
    train_rounds(opened(whole))
    train_rounds(opened(grown, train__rounds=1))
    report = train_rounds(opened(grown))
    assert not report.skipped
    assert bytes_of(grown) == bytes_of(whole)
    kohya = train_rounds(opened(grown, train__export=("kohya",))).adapter / "kohya"
    assert (kohya / "default.safetensors").is_file()
    assert train_rounds(opened(grown, train__export=("kohya",))).skipped


@pytest.mark.slow
def test_rounds_of_two_processes_are_those_of_one(parent: Path, tmp_path: Path) -> None:
    """A gradient's sum in another order may move last bits, so a later picture by one grey level."""
    one, two = (copied(parent, tmp_path / name) / "train/default/rounds" for name in ("one", "two"))
    first = train_rounds(opened(one.parents[2]))
    second = train_rounds(opened(two.parents[2], train__processes=2))

    assert first.pairs == second.pairs > 0
    drawn = [sorted((rounds / "1/images").rglob("*.parquet")) for rounds in (one, two)]
    assert [pq.read_table(file) for file in drawn[0]] == [pq.read_table(file) for file in drawn[1]]
    for number in ("1", "2"):
        lora = f"{number}/train/default/adapter/pytorch_lora_weights.safetensors"
        ours, theirs = load_file(one / lora), load_file(two / lora)
        assert ours.keys() == theirs.keys()
        # AdamW divides by the gradient's size, so where that is next to nothing its rounding shows
        apart = torch.cat([(theirs[name] - value).flatten() for name, value in ours.items()])
        learned = torch.cat([value.flatten() for name, value in ours.items() if "lora_B" in name])
        assert apart.norm() < 1e-3 * learned.norm()
    for (what, ours), (other, theirs) in zip(drawn_in(one / "2"), drawn_in(two / "2"), strict=True):
        assert what == other
        assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1


def drawn_in(path: Path) -> list[tuple[str, Any]]:
    """(prompt and index, picture) of a round."""
    rows = [row for file in (path / "images").rglob("*.parquet") for row in pq.read_table(file).to_pylist()]
    found = [(f"{row['prompt']} {row['index']}", decode(row["image"]["bytes"])) for row in rows]
    return sorted(found, key=itemgetter(0))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spin", "sapo"])
def test_self_play_pairs_the_datasets_winners_with_its_own_losers(
    parent: Path, tmp_path: Path, method: str
) -> None:
    path = copied(parent, tmp_path / "run")
    before = tables(path)
    more = {"train__method": method, "rounds__min_margin": None, "pairs__min_agreement": 0.0}
    report = train_rounds(opened(path, **more))

    assert tables(path) == before
    from rpo_cli.train.data.pairs import read_pairs

    own = {pair.winner for pair in read_pairs(path / "dataset", "train")}
    rounds = path / "train" / "default" / "rounds"
    losers = []
    for number in (1, 2):
        pairs = read_pairs(rounds / str(number) / "dataset", "train")
        assert {pair.winner for pair in pairs} <= own
        losers.append({pair.loser for pair in pairs})
        assert not losers[-1] & own
    assert (rounds / "1" / "train" / "default" / "reference").exists() == (method == "sapo")
    # sapo uses the losers of the first round again, spin makes all of them anew
    assert (losers[0] <= losers[1]) == (method == "sapo")
    assert losers[1] - losers[0]
    assert report.rounds[1].pictures == 2 * len(own)
    assert status(rounds / "2").stages[0].stale == 0  # winners and losers used again are no old rows
    assert train_rounds(opened(path, **more)).skipped


@pytest.mark.slow
def test_a_round_that_leaves_no_pair_says_why(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(RpoError, match=r"round 1: no pair is left .*inside_band 3"):
        train_rounds(opened(tmp_path / "run", rounds__min_margin=1e6))


def train(path: str, more: dict[str, Any]) -> None:
    train_rounds(opened(Path(path), **more))


def worker(path: Path, more: dict[str, Any]) -> Any:
    """A fresh process that trains; the libraries are preloaded, so kills meet the work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=train, args=(str(path), more))
    process.start()
    return process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "shares"), [("dpo", (0.3, 0.5, 0.8)), ("sapo", (0.15, 0.35, 0.5, 0.65, 0.9))]
)
def test_killed_between_and_within_rounds_it_ends_with_the_same_bytes(
    parent: Path, tmp_path: Path, method: str, shares: tuple[float, ...]
) -> None:
    more: dict[str, Any] = {"train__method": method, "rounds__min_margin": 0.0}
    undisturbed = copied(parent, tmp_path / "undisturbed")
    process = worker(undisturbed, more)
    process.join()
    assert process.exitcode == 0
    files, path, rng, kills = made(undisturbed), copied(parent, tmp_path / "killed"), random.Random(0), 0
    for share in shares:  # of the files, so that kills meet both rounds
        process = worker(path, more)
        while process.exitcode is None and made(path) < share * files:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.2))
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
    process = worker(path, more)
    process.join()
    assert process.exitcode == 0
    assert kills >= len(shares) - 1
    assert bytes_of(path) == bytes_of(undisturbed)


def made(path: Path) -> int:
    """Files of the rounds, without those that come and go."""
    found = [name for _, _, names in os.walk(path / "train") for name in names]  # folders come and go too
    return sum(not name.startswith(("checkpoint", ".")) for name in found if not name.endswith(".lock"))
