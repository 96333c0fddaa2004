"""Online training from door to file: what it refuses, counts, commits, and that it learns."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from rpo_cli import registry
from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.errors import RpoError, SettingsError, Terminated, UsageError
from rpo_cli.train.composition import Rewards
from rpo_cli.train.objectives.online import composed_online, settled_online

NAMES = list(registry.online_objectives)
WEIGHTS = "pytorch_lora_weights.safetensors"


def metrics(out):
    """Every round's numbers; what the clock says differs each time."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(row.pop("seconds") > 0 for row in rows)
    return rows


def result(out):
    """Everything that a training leaves behind."""
    files = {path.name: path.read_bytes() for path in sorted((out / "adapter").iterdir())}
    names = sorted(path.name for path in out.iterdir())
    return {**files, "metrics": metrics(out), "done": (out / "done.json").read_bytes(), "names": names}


class StopAt:
    """An observer that stops the training once it is told of a round."""

    def __init__(self, round_: int) -> None:
        self._left = round_

    def start(self, stage, total, present) -> None: ...

    def advance(self, rows, rejects) -> None:
        self._left -= 1
        if self._left == 0:
            raise Terminated

    def finish(self) -> None: ...

    def note(self, text) -> None: ...


@pytest.mark.parametrize("name", NAMES)
def test_a_method_without_changes_is_its_preset(name):
    objective = registry.load("objectives", name)
    assert composed_online(TrainSettings(method=name, rounds=1), OnlineSettings()) == objective
    settings, online, _ = settled_online(TrainSettings(method=name, rounds=1), OnlineSettings())
    assert settings.beta == objective.default_beta
    assert settings.clip == objective.clip
    assert online.min_margin == objective.min_margin


@pytest.mark.parametrize("name", NAMES)
def test_all_that_contradicts_a_method_is_told_at_once(name):
    objective = registry.load("objectives", name)
    wrong = {"train.margin", "train.flip", "train.rounds"}
    if not objective.paired:
        wrong |= {"online.min_margin", "train.ratio_base", "train.link"}
    else:
        wrong |= {"online.baseline", "online.advantage_clip"}
    settings = TrainSettings(method=name, margin=1.0, flip=True, ratio_base="ref", link="ipo")
    online = OnlineSettings(min_margin=9.0, baseline="batch", advantage_clip=1.0)
    if name == "d3po":  # it has the reference as its base, and no other link
        wrong |= {"train.link"}
    with pytest.raises(SettingsError) as caught:
        composed_online(settings, online)
    assert {problem.partition(":")[0] for problem in caught.value.problems} == wrong


def test_a_beta_for_a_method_that_has_none_is_refused():
    with pytest.raises(SettingsError, match=r"train\.beta: ddpo has none"):
        composed_online(TrainSettings(method="ddpo", rounds=1, beta=5.0), OnlineSettings())


def test_pairs_need_two_rows_in_a_pass_and_steps_that_are_there():
    with pytest.raises(SettingsError) as caught:
        composed_online(
            TrainSettings(method="d3po", rounds=1, batch_size=1), OnlineSettings(steps=4, taught_steps=5)
        )
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("given", [{"prompts": []}, {"rewards": Rewards({}, lambda device: {}, 4)}])
def test_nothing_to_sample_or_to_aim_at_is_refused(run_online, given):
    with pytest.raises(UsageError):
        run_online(**given)


def test_flow_models_are_refused_before_their_weights_load(run_online, tmp_path):
    index = {"_class_name": "StableDiffusion3Pipeline"}
    parts = (
        "transformer",
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "scheduler",
    )
    index |= {part: ["diffusers", "Thing"] for part in parts}
    (tmp_path / "sd3" / "transformer").mkdir(parents=True)
    (tmp_path / "sd3" / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "sd3" / "transformer" / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"SD 1\.x, 2\.x and XL only"):
        run_online(model=str(tmp_path / "sd3"))


def test_more_taught_steps_than_have_a_density_are_refused(run_online):
    """The tiny model's last DDIM step is certain, so 3 of 4 can teach."""
    with pytest.raises(UsageError, match="only 3 of these steps"):
        run_online(taught_steps=4)


class Broken:
    def setup(self) -> None: ...

    def score(self, prompts, images):
        return [float("nan")] * len(images)


def test_a_reward_that_is_no_number_is_named(run_online):
    rewards = Rewards({"broken": "1"}, lambda device: {"broken": Broken()}, 4)
    with pytest.raises(RpoError, match="reward 'broken' is nan for a picture of 'a "):
        run_online(rewards=rewards)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_starts_its_rounds_at_ratio_one_and_counts_its_pictures(run_online, tmp_path, name):
    """Two rounds of 2 prompts x 2 pictures; values score the promise of each of 4 steps as well."""
    report = (
        run_online(method=name, min_margin=0.0)
        if name in ("d3po", "ppod-online")
        else run_online(method=name)
    )
    rows = metrics(tmp_path / "out")
    assert [row["images_sampled"] for row in rows] == [4, 8]
    each = 5 if name == "score-as-action" else 1
    assert [row["pictures_scored"] for row in rows] == [4 * each, 8 * each]
    assert report.images == 8
    assert all(row.get("first_log_ratio", 0.0) == 0.0 for row in rows)
    if registry.load("objectives", name).needs_reference:
        assert rows[0]["reference_kl"] == 0.0
        assert rows[1]["reference_kl"] > 0.0
    assert any(value.any() for key, value in load_file(report.adapter / WEIGHTS).items() if "lora_B" in key)


def test_pairs_within_the_noise_are_not_used(run_online, tmp_path):
    report = run_online(method="ppod-online", min_margin=100.0, rounds=1)
    (row,) = metrics(tmp_path / "out")
    assert (row["pairs"], row["pairs_within_noise"]) == (0, 2)
    assert report.steps == 0
    weights = load_file(report.adapter / WEIGHTS)
    assert not any(value.any() for key, value in weights.items() if "lora_B" in key)


def test_a_training_stopped_within_a_round_ends_with_the_same_bytes(run_online, tmp_path):
    """It is told of a round before the round is committed, so that round is made again."""
    settings = {"rounds": 2, "ema": 0.9, "warmup_steps": 3, "prompts_per_round": 3}
    run_online("whole", **settings)
    with pytest.raises(Terminated):
        run_online("cut", observer=StopAt(2), **settings)
    run_online("cut", **settings)
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


def test_a_finished_training_loads_no_heavy_library(run_online, tmp_path, model):
    """And other settings under its name are refused."""
    first = run_online(rounds=1)
    script = f"""
import sys
from pathlib import Path
from rpo_cli.config import TrainSettings
from rpo_cli.config import OnlineSettings
from rpo_cli.train.composition import OnlineInputs, Rewards
from rpo_cli.train.online.run import train_online
done = train_online(OnlineInputs(
    TrainSettings(
        method="ddpo", rounds=1, global_batch=2, batch_size=4, rank=4, warmup_steps=0, learning_rate=1e-3),
    OnlineSettings(steps=4, guidance=2.0, images_per_prompt=2, prompts_per_round=2, baseline_size=2),
    prompts=[("p0", "a red thing"), ("p1", "a blue thing"), ("p2", "a dog"), ("p3", "a cat")],
    rewards=Rewards({{"bright": "1"}}, None, 4), model={str(model)!r}, revision=None,
    model_identity={str(model)!r}, out=Path({str(tmp_path / "out")!r}), seed=0, device="cpu"))
heavy = {{"torch", "diffusers", "transformers", "peft"}}
print(done.skipped, done.images, sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", str(first.images), "[]"]
    with pytest.raises(UsageError, match="made with other settings: rounds 1 → 2"):
        run_online(rounds=2)


def test_a_layout_asked_for_later_is_added_to_the_finished_adapter(run_online):
    first = run_online(rounds=1)
    assert not (first.adapter / "kohya").exists()
    again = run_online(rounds=1, export=("kohya",))
    assert again.skipped
    assert (again.adapter / "kohya").is_dir()


@pytest.mark.slow
def test_a_training_killed_at_random_moments_ends_with_the_same_bytes(victim, model, tmp_path):
    job = {
        "settings": {"method": "ddpo", "rounds": 4, "global_batch": 2, "batch_size": 4, "rank": 4}
        | {"warmup_steps": 3, "learning_rate": 1e-3, "ema": 0.9},
        "online": {"steps": 4, "guidance": 2.0, "images_per_prompt": 2, "prompts_per_round": 2}
        | {"baseline_size": 2},
        "prompts": [["p0", "a red thing"], ["p1", "a dog"], ["p2", "a cat"]],
        "model": str(model),
        "revision": None,
        "model_identity": "m",
        "seed": 0,
        "device": "cpu",
        "threads": 1,
    }
    victim.start(job | {"out": str(tmp_path / "whole")})  # returns when the imports are done
    began = time.monotonic()
    assert victim.wait() == 0
    seconds = time.monotonic() - began
    expected = result(tmp_path / "whole")
    generator = random.Random(0)
    killed, attempt, outs = 0, 0, set()
    while killed < 8:
        out = tmp_path / f"cut{attempt}"
        outs.add(out)
        pid = victim.start(job | {"out": str(out)})
        time.sleep(generator.uniform(0, 0.8 * seconds))
        with contextlib.suppress(ProcessLookupError):  # it came to its end
            os.kill(pid, signal.SIGKILL)
        if victim.wait() == -signal.SIGKILL:
            killed += 1
        else:
            attempt += 1
    for out in outs:
        victim.start(job | {"out": str(out)})
        assert victim.wait() == 0
        assert result(out) == expected


@pytest.mark.slow
def test_ddpo_learns_to_draw_brighter_pictures(run_online, tmp_path):
    """64 pictures a round: a round's mean has a standard error of an eighth of the noise over seeds."""
    settings = {"rounds": 5, "full": True, "learning_rate": 3e-3, "clip": 1e-2, "global_batch": 64}
    sampling = {"steps": 5, "guidance": 1.0, "images_per_prompt": 16, "prompts_per_round": 4}
    run_online(batch_size=16, inner_epochs=2, baseline="prompt", **settings, **sampling)
    rows = metrics(tmp_path / "out")
    error = rows[0]["reward_noise"] / 8
    assert rows[-1]["reward_mean"] > rows[0]["reward_mean"] + 8 * error
