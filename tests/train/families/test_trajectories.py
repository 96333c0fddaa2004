"""Methods on trajectories for SDXL: two text encoders, and the picture's size in the condition."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file

from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.protocols import Silent
from rpo_cli.train.composition import OnlineInputs, Rewards
from rpo_cli.train.families.family import Folder
from rpo_cli.train.online.rollout import conditions
from rpo_cli.train.online.run import train_online
from rpo_cli.train.online.trajectory import Grid, Sampler, sample
from rpo_cli.train.policy import build_policy, weight_dtype
from tests.closeness import FORWARD, assert_close

PROMPTS = ["a red thing", "a dog", "a cat"]


class Brightness:
    def setup(self) -> None: ...

    def score(self, prompts, images):
        return [float(np.asarray(image).mean() / 255) for image in images]


@pytest.mark.parametrize(("side", "guidance"), [(8, 3.0), (12, 1.0)])
def test_a_trajectory_of_sdxl_ends_where_the_diffusers_pipeline_does(opened, model_of, side, guidance):
    """Same seeds, steps, guidance, eta and size; the size that it is told is that of the pictures."""
    settings, family, pipe = TrainSettings(rank=4), opened("sdxl").family, opened("sdxl").pipeline
    denoiser = family.load_denoiser(weight_dtype(settings))
    policy = build_policy(denoiser, settings, family.lora_targets, 0, "cpu")
    grid = Grid.of(Folder(str(model_of("sdxl")), None).config("scheduler", DDIMScheduler), 4, 1.0)
    sampler = Sampler(policy, family, grid, guidance, (4, side, side), "cpu")
    told = conditions(sampler, family.load_encoders("cpu"), ["", *PROMPTS], Silent())
    empty = {part: value[:1] for part, value in told.items()}
    prompted = {part: value[1:] for part, value in told.items()}
    drawn = sample(sampler, sampler.both(prompted, empty), [5, 6, 7])
    scheduler = pipe.scheduler
    pipe.scheduler = DDIMScheduler.from_config(scheduler.config)
    theirs = pipe(
        PROMPTS,
        height=2 * side,
        width=2 * side,
        num_inference_steps=4,
        guidance_scale=guidance,
        eta=1.0,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in (5, 6, 7)],
        output_type="latent",
    ).images
    pipe.scheduler = scheduler
    assert_close(drawn.latents[-1], theirs, FORWARD)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpok", "ppod-online"])
def test_a_round_of_sdxl_starts_at_ratio_one_and_ends_in_an_adapter(model_of, tmp_path, method):
    settings = TrainSettings(
        method=method, rounds=2, rank=4, global_batch=2, batch_size=4, warmup_steps=0, learning_rate=1e-3
    )
    sampling = {"steps": 3, "guidance": 2.0, "images_per_prompt": 2, "prompts_per_round": 2}
    sampling |= {"min_margin": 0.0} if method == "ppod-online" else {"baseline_size": 2}
    inputs = OnlineInputs(
        settings,
        OnlineSettings(**sampling),
        prompts=[(prompt, prompt) for prompt in PROMPTS],
        rewards=Rewards({"bright": "1"}, lambda device: {"bright": Brightness()}, 4),
        model=str(model_of("sdxl")),
        revision=None,
        model_identity="sdxl",
        out=tmp_path / "out",
        seed=0,
        device="cpu",
        threads=1,
    )
    report = train_online(inputs)
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [row["images_sampled"] for row in rows] == [4, 8]
    assert all(row["first_log_ratio"] == 0.0 for row in rows)
    weights = load_file(report.adapter / "pytorch_lora_weights.safetensors")
    assert any(value.any() for key, value in weights.items() if "lora_B" in key)
