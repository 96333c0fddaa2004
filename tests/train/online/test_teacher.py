"""Gradients of a round: those of the loss as written, however the items go through the model."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler

from rpo_cli import registry
from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.errors import RpoError
from rpo_cli.train.families.family import Folder, open_family
from rpo_cli.train.online.credit import Memory
from rpo_cli.train.online.lesson import Lesson, State, running_cost
from rpo_cli.train.online.losses import losses
from rpo_cli.train.online.rollout import Rollout, round_prompts
from rpo_cli.train.online.teacher import Chunk, Teacher
from rpo_cli.train.online.trajectory import Grid, Sampler, sample, step_kl
from rpo_cli.train.policy import build_policy, weight_dtype
from tests.closeness import GRADIENT, assert_close

PICTURES = 4


@pytest.fixture(scope="module")
def sampler(model):
    """A LoRA that is no longer its reference: its up matrices are random."""
    settings, family = TrainSettings(rank=4), open_family(str(model))
    denoiser = family.load_denoiser(weight_dtype(settings))
    policy = build_policy(denoiser, settings, family.lora_targets, 0, "cpu")
    generator = torch.Generator().manual_seed(0)
    for name, parameter in policy.parameters.items():
        if "lora_B" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    grid = Grid.of(Folder(str(model), None).config("scheduler", DDIMScheduler), 4, 1.0)
    return Sampler(policy, family, grid, 2.0, family.latent_size()[0], "cpu")


@pytest.fixture(scope="module")
def rollout(sampler):
    encoded = sampler.family.load_encoders("cpu").encode_prompts(["", "a dog", "a cat"])
    empty = {"hidden": encoded["hidden"][:1]}
    condition = {"hidden": encoded["hidden"][1:].repeat_interleave(2, 0)}
    found = sample(sampler, sampler.both(condition, empty), [1, 2, 3, 4], with_reference=True)
    return Rollout([("a", "a dog"), ("b", "a cat")], condition, empty, found, {}, {})


def chunk_of(name, sampler, rollout, *, rows=PICTURES, beta=None, items=None, **changed):
    objective = replace(registry.load("objectives", name), **changed)
    beta = (objective.default_beta or 0.0) if beta is None else beta
    teacher = Teacher(sampler, objective, TrainSettings(), OnlineSettings(), rows, beta, 0)
    advantage = torch.tensor([[1.0, -2.0, 0.5, 0.0]]).repeat(len(sampler.grid), 1)
    pairs = [(0, 1), (3, 2)]
    found = Lesson(pairs if objective.paired else [(i,) for i in range(PICTURES)], advantage, {})
    if objective.paired:
        found = replace(found, advantage=None)
    places = range(len(found.items)) if items is None else items
    return Chunk(teacher, rollout, found, list(places), sampler.grid.random_steps)


def gradient_of(work, sampler):
    parameters = list(sampler.policy.parameters.values())
    for parameter in parameters:
        parameter.grad = None
    work()
    return torch.cat([parameter.grad.flatten() for parameter in parameters])


def off():
    return torch.amp.GradScaler("cpu", enabled=False)


def as_written(chunk):
    """The mean over the items of the loss, with every step's graph at once."""
    teacher, objective = chunk.teacher, chunk.teacher.objective
    ratios, penalties = zip(*[chunk.log_ratio(index) for index in chunk.steps], strict=True)
    found = losses(objective, torch.stack(ratios), chunk.advantage, teacher.beta)
    loss = found.mean(0) + torch.stack(penalties).mean(0)
    loss.mean().backward()


@pytest.mark.parametrize("name", ["dpok", "d3po", "ppod-online"])
def test_the_gradient_is_that_of_the_loss_as_written(sampler, rollout, name):
    """Step by step, and for a summed pair in two passes, without ever holding all steps."""
    chunk = chunk_of(name, sampler, rollout)
    ours = gradient_of(lambda: chunk.backward(1 / len(chunk.places), off()), sampler)
    wanted = gradient_of(lambda: as_written(chunk), sampler)
    assert wanted.abs().max() > 0
    assert_close(ours, wanted, GRADIENT)


def test_the_size_of_a_pass_does_not_change_the_gradient(sampler, rollout):
    name = "ppod-online"
    whole = chunk_of(name, sampler, rollout)
    count = len(whole.places)

    def in_parts():
        for place in range(count):
            width = whole.teacher.objective.width
            chunk_of(name, sampler, rollout, rows=width, items=[place]).backward(1 / count, off())

    one = gradient_of(lambda: whole.backward(1 / count, off()), sampler)
    many = gradient_of(in_parts, sampler)
    assert_close(one, many, GRADIENT)


def test_ratios_to_the_sampling_policy_start_at_one_and_to_the_reference_do_not(sampler, rollout):
    for name, base, zero in (("ppod-online", "old", True), ("ppod-online", "ref", False)):
        chunk = chunk_of(name, sampler, rollout, ratio_base=base)
        ratios = torch.stack([chunk.log_ratio(index)[0] for index in chunk.steps])
        assert bool((ratios == 0).all()) == zero


def test_without_advantage_dpok_walks_back_to_the_pretrained_model(sampler, rollout):
    """Its loss is then β times the KL of the steps, and its gradient points away from the reference."""
    chunk = chunk_of("dpok", sampler, rollout, beta=2.0)
    chunk = replace(chunk, lesson=replace(chunk.lesson, advantage=torch.zeros(4, PICTURES)))
    drawn, grid = rollout.trajectories, sampler.grid
    loss = 0.0

    def work():
        nonlocal loss
        loss, _ = chunk.backward(1 / PICTURES, off())

    gradient = gradient_of(work, sampler)
    kl = torch.stack([step_kl(grid, i, drawn.means[i], drawn.reference_means[i]) for i in chunk.steps])
    assert loss == pytest.approx(2.0 * float(kl.mean()), rel=1e-4)
    towards = torch.cat(
        [
            (parameter if "lora_B" in name else torch.zeros_like(parameter)).flatten()
            for name, parameter in sampler.policy.parameters.items()
        ]
    )
    assert float(gradient @ towards.detach()) > 0


def test_ddpo_makes_what_earned_more_likelier(sampler, rollout):
    """A small step against the gradient raises log-probabilities where A > 0, and lowers where A < 0."""
    chunk = chunk_of("ddpo", sampler, rollout)
    gradient = gradient_of(lambda: chunk.backward(1 / PICTURES, off()), sampler)
    parameters = list(sampler.policy.parameters.values())
    kept = [parameter.detach().clone() for parameter in parameters]
    step = 1e-2 / float(gradient.norm())
    with torch.no_grad():
        for parameter in parameters:
            parameter -= step * parameter.grad
        moved = torch.stack([chunk.log_ratio(index)[0][0] for index in chunk.steps])
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
    assert float((moved * chunk.advantage).sum()) > 0


def test_the_running_cost_is_zero_at_the_reference_and_rises_with_beta(sampler, rollout):
    assert (running_cost(sampler.grid, rollout, 1.0) > 0).all()
    once, twice = (running_cost(sampler.grid, rollout, beta) for beta in (1.0, 2.0))
    assert twice == pytest.approx(2 * once)
    same = replace(rollout.trajectories, deviation=torch.zeros(4, PICTURES))
    assert not running_cost(sampler.grid, replace(rollout, trajectories=same), 1.0).any()


def test_every_prompt_comes_once_before_any_comes_again():
    prompts = [(str(number), f"prompt {number}") for number in range(5)]
    rounds = [round_prompts(prompts, 0, index, 3) for index in range(10)]
    drawn = [key for chosen in rounds for key, _ in chosen]
    for epoch in range(6):
        assert sorted(drawn[5 * epoch : 5 * epoch + 5]) == sorted(key for key, _ in prompts)
    assert rounds == [round_prompts(prompts, 0, index, 3) for index in range(10)]
    assert rounds != [round_prompts(prompts, 1, index, 3) for index in range(10)]
    assert len(round_prompts(prompts, 0, 0, 9)) == 5


def test_the_gradient_is_clipped_before_the_step(sampler, rollout):
    """What the optimiser is given has at most the norm that was set."""
    parameters = sampler.policy.parameters.values()
    norms = []

    class Watching(torch.optim.SGD):
        def step(self, closure=None):
            norms.append(torch.cat([p.grad.flatten() for p in parameters]).norm().item())

    chunk = chunk_of("ppod-online", sampler, rollout)
    settings = TrainSettings(max_grad_norm=1e-3, learning_rate=1e-4, warmup_steps=0)
    teacher = replace(chunk.teacher, settings=settings)
    state = State(Watching(parameters, lr=0.0), off(), Memory(2))
    numbers = teacher.teach(rollout, chunk.lesson, state)
    assert numbers["grad_norm"] > 1.0
    assert norms == [pytest.approx(1e-3, rel=1e-3)]


def test_a_loss_that_is_no_number_stops_before_the_weights_change(sampler, rollout):
    chunk = chunk_of("ddpo", sampler, rollout)
    broken = replace(chunk.lesson, advantage=torch.full((4, PICTURES), float("nan")))
    parameters = list(sampler.policy.parameters.values())
    before = [parameter.detach().clone() for parameter in parameters]
    state = State(torch.optim.SGD(parameters, lr=1.0), off(), Memory(2))
    with pytest.raises(RpoError, match="round 1: the loss is nan"):
        chunk.teacher.teach(rollout, broken, state)
    assert all(torch.equal(*pair) for pair in zip(parameters, before, strict=True))
