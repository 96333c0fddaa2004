"""Every method of the registry, end to end and however the step is split into forward passes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rpo_cli import registry
from rpo_cli.config import TrainSettings
from rpo_cli.errors import SettingsError, UsageError
from rpo_cli.train import step
from rpo_cli.train import step as step_module
from rpo_cli.train.composition import Embedder, TrainInputs, composed, settled
from rpo_cli.train.families.family import open_family
from rpo_cli.train.job import prepare
from rpo_cli.train.loop import start_or_resume
from rpo_cli.train.policy import build_policy

SHAPES = Path(step_module.__file__).parent.parent / "shapes" / "models"
EMBEDDER = Embedder(str(SHAPES / "reward"), None, "shapes-reward")
NAMES = list(registry.objectives)


def settings_of(name: str, **given) -> dict:
    """Settings under which a method runs on few pairs."""
    objective = registry.load("objectives", name)
    groups = {"group_size": 4} if objective.group_size > 1 else {}
    return {"method": name, **groups, **({"list_size": 3} if objective.listwise else {}), **given}


def metrics(tmp_path, split="train", out="out") -> list[dict]:
    lines = (tmp_path / out / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


@pytest.mark.parametrize("name", NAMES)
def test_every_method_trains_and_starts_at_its_reference(run_train, rich_dataset, tmp_path, name):
    objective = registry.load("objectives", name)
    report = run_train(dataset=rich_dataset, embedder=EMBEDDER, **settings_of(name, steps=2))
    rows = metrics(tmp_path)
    assert [row["step"] for row in rows] == [1, 2]
    weights = load_file(report.adapter / "pytorch_lora_weights.safetensors")
    assert any(value.abs().max() > 0 for layer, value in weights.items() if "lora_B" in layer)
    assert report.validation_last["loss"] > 0
    assert ("logit_std" in rows[0]) == objective.compares
    if objective.needs_reference:
        assert rows[0]["winner_error"] == rows[0]["reference_winner_error"]
        assert rows[1]["winner_error"] != rows[1]["reference_winner_error"]
    else:
        assert "reference_winner_error" not in rows[0]
    if objective.needs_reference and objective.compares and objective.reference_mix == 1:
        kept = "plackett-luce" not in name  # its logits compare one picture with two
        assert not kept or rows[0]["logit_std"] == 0


@pytest.fixture(scope="module")
def shapes_job(rich_dataset, tmp_path_factory):
    """(job, fresh state) of a method on the shapes model."""
    cache = tmp_path_factory.mktemp("shapes-cache")
    model = str(SHAPES / "text-to-image")

    def make(name: str, batch_size: int):
        settings = TrainSettings(**settings_of(name, global_batch=8, batch_size=batch_size, rank=2))
        beta = composed(settings).default_beta  # a large one amplifies the rounding of errors
        settings = settled(settings)[0].model_copy(update={"beta": beta and beta / 100})
        family = open_family(model, None)
        out = tmp_path_factory.mktemp("out")
        inputs = TrainInputs(
            settings, rich_dataset, model, None, "shapes", out, cache, 0, "cpu", embedder=EMBEDDER
        )
        job = prepare(inputs, family, Quiet())
        policy = build_policy(family.load_denoiser(), settings, family.lora_targets, 0, "cpu")
        nudge(policy)
        return job, start_or_resume(job, policy, out)

    return make


class Quiet:
    """An observer that says nothing."""

    def start(self, stage, total, present) -> None: ...

    def advance(self, rows, rejects) -> None: ...

    def finish(self) -> None: ...

    def note(self, text) -> None: ...


def nudge(policy) -> None:
    """Move the adapters off zero, so that policy and reference differ."""
    generator = torch.Generator().manual_seed(0)
    for parameter in policy.parameters.values():
        parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_split_into_forward_passes_changes_no_gradient_beyond_rounding(shapes_job, monkeypatch, name):
    """Groups and lists too: a group that does not fit into one forward pass is run in parts."""
    monkeypatch.setattr(step, "require_equal_start", lambda *given: None)
    found = []
    for size in (8, 3, 1):
        job, state = shapes_job(name, size)
        step.accumulate(job, state)
        found.append(torch.cat([p.grad.flatten() for p in state.policy.parameters.values()]))
    whole, *parts = found
    assert whole.norm() > 0
    for part in parts:
        assert (whole - part).norm() <= 1e-5 * whole.norm()


def test_a_group_that_does_not_fit_gives_the_same_training(run_train, rich_dataset, tmp_path):
    for size in (4, 1):
        run_train(f"size{size}", dataset=rich_dataset, **settings_of("kto", batch_size=size, steps=1))
    whole, part = (metrics(tmp_path, out=f"size{size}")[0] for size in (4, 1))
    for name in ("loss", "winner_error", "loser_error", "grad_norm"):
        assert part[name] == pytest.approx(whole[name], rel=1e-5), name


def test_groups_share_what_their_method_says(rich_dataset, shapes_job, monkeypatch):
    seen = []
    assemble = step.assemble

    def spy(draws, *args):
        seen.append(draws)
        return assemble(draws, *args)

    monkeypatch.setattr(step, "assemble", spy)
    for name, shared in (("ir-dro", (True, False)), ("relative", (True, True)), ("kto", (False, False))):
        seen.clear()
        job, state = shapes_job(name, 8)
        step.forward(
            job,
            state.policy,
            job.pairs,
            [step.training_draw(job.draws, 0, place, 8) for place in range(8)],
            grad=False,
        )
        for group in (seen[0][:4], seen[0][4:]):
            times = len({draw.timestep for draw in group}) == 1
            noise = all(torch.equal(draw.noise, group[0].noise) for draw in group)
            assert (times, noise) == shared, name
            assert not torch.equal(group[0].posterior, group[1].posterior)
        assert seen[0][0].timestep != seen[0][4].timestep


def test_proximal_training_logs_the_share_beyond_the_band_by_side_and_direction(
    run_train, rich_dataset, tmp_path
):
    run_train(dataset=rich_dataset, method="ppod", steps=3, learning_rate=1e-2, clip=1e-7)
    first, *_, last = metrics(tmp_path)
    names = {f"{side}_beyond_{way}" for side in ("winner", "loser") for way in ("good", "bad")}
    assert names <= first.keys()
    assert all(first[name] == 0 for name in names)
    assert sum(last[name] for name in names) > 0


def test_proximal_timesteps_leave_out_both_ends(shapes_job):
    job, _ = shapes_job("ppod", 8)
    assert (job.draws.first, job.draws.last) == (1, job.schedule.steps - 2)


def test_a_trained_objective_prefers_winners(run_train, rich_dataset):
    """The methods that compare, on pairs that are easy to tell apart."""
    for name, beta in (("ipo", 300.0), ("kto", 1000.0)):
        told = settings_of(name, steps=30, global_batch=8, batch_size=8, validate_every=30, beta=beta)
        report = run_train(name, dataset=rich_dataset, rank=8, learning_rate=1e-2, **told)
        assert report.validation_last["implicit_accuracy"] > 0.7, name


def test_negative_weights_learn_the_opposite(run_train, rich_dataset):
    told = {"steps": 30, "rank": 8, "learning_rate": 3e-3, "global_batch": 8, "batch_size": 8}
    last = run_train(dataset=rich_dataset, method="npo", **told).validation_last
    assert last["loss"] < 0.69
    worse = {side: last[f"{side}_error"] - last[f"reference_{side}_error"] for side in ("winner", "loser")}
    assert worse["winner"] > worse["loser"]


@pytest.mark.parametrize("name", ["mallows", "smpo", "rainbow", "rank-dpo", "plackett-luce"])
def test_data_without_the_column_that_a_method_reads_are_refused(run_train, name):
    objective = registry.load("objectives", name)
    with pytest.raises(UsageError, match="no column") as caught:
        run_train(method=name)
    assert objective.columns[0] in caught.value.message


def test_a_method_without_its_embedder_is_refused(run_train):
    with pytest.raises(UsageError, match="needs a CLIP model") as caught:
        run_train(**settings_of("relative"))
    assert "train.embedder" in caught.value.hint


def test_an_embedder_that_is_no_clip_is_refused(run_train, model):
    with pytest.raises(UsageError, match="no CLIP model"):
        run_train(**settings_of("relative"), embedder=Embedder(str(model), None, "none"))


def test_contradictions_are_told_before_any_file_is_written(run_train, tmp_path):
    with pytest.raises(SettingsError, match="2 wrong settings"):
        run_train(method="mapo", reference_mix=1.0 / 3, link="ipo")
    assert not (tmp_path / "out").exists()


def test_the_record_names_the_methods_own_numbers(run_train, rich_dataset, tmp_path):
    run_train(dataset=rich_dataset, method="rainbow")
    identity = json.loads((tmp_path / "out" / "done.json").read_text())["identity"]
    assert {name: identity[name] for name in ("beta", "reference_mix", "margin", "pair_weight")} == {
        "beta": 100.0,
        "reference_mix": 0.25,
        "margin": 1.0,
        "pair_weight": "dispersion",
    }
    assert "divergence" not in identity


@pytest.mark.parametrize("full", [False, True])
def test_a_reference_that_moves_is_the_policy_at_each_move(run_train, tmp_path, full):
    """So the logits start again at exactly zero; held-out pairs are still compared with the first one."""
    stays = run_train("stays", steps=5, full=full).validation_last
    moves = run_train("moves", steps=5, full=full, reference_every=2).validation_last
    rows = metrics(tmp_path, out="moves")
    assert [row["logit_std"] == 0 for row in rows] == [True, False, True, False, True]
    assert rows[2]["winner_error"] == rows[2]["reference_winner_error"]
    for name in ("reference_winner_error", "reference_loser_error"):
        assert moves[name] == stays[name]


def test_a_reference_that_moves_in_part_trails_the_policy(run_train, tmp_path):
    run_train("all", steps=4, reference_every=1)
    run_train("part", steps=4, reference_every=1, reference_decay=0.5)
    run_train("none", steps=4)
    spreads = [metrics(tmp_path, out=out)[2]["logit_std"] for out in ("all", "part", "none")]
    assert spreads[0] == 0 < spreads[1] < spreads[2]


def test_a_cut_training_with_a_moving_reference_goes_on_to_the_same_bytes(run_train, tmp_path, monkeypatch):
    told = {"method": "ppod", "ratio_base": "old", "reference_every": 2, "steps": 6, "ema": 0.5}
    whole = run_train("whole", save_every=1, **told)
    step = step_module.train_step

    def cut(job, state, observer):
        if state.step == 3:
            raise KeyboardInterrupt
        return step(job, state, observer)

    with monkeypatch.context() as patch:
        patch.setattr(step_module, "train_step", cut)
        with pytest.raises(KeyboardInterrupt):
            run_train("cut", save_every=1, **told)
    again = run_train("cut", save_every=1, **told)
    name = "pytorch_lora_weights.safetensors"
    assert (again.adapter / name).read_bytes() == (whole.adapter / name).read_bytes()
    clock = "pairs_per_second"
    rows = [[{**row, clock: 0} for row in metrics(tmp_path, out=out)] for out in ("whole", "cut")]
    assert rows[0] == rows[1]
