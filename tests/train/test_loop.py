"""Training end to end on the tiny model."""

import json
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from rpo_cli.errors import RpoError, UsageError
from rpo_cli.train import item_errors as batch_module
from rpo_cli.train import loop as loop_module
from rpo_cli.train.families.unet import StableDiffusion1
from tests.closeness import FORWARD, assert_close


class Notes:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.started: list[tuple[str, int, int]] = []
        self.rows = 0

    def start(self, stage, total, present) -> None:
        self.started.append((stage, total, present))

    def advance(self, rows, rejects) -> None:
        self.rows += rows

    def finish(self) -> None: ...

    def note(self, text) -> None:
        self.notes.append(text)


def weights(report) -> dict[str, torch.Tensor]:
    return load_file(report.adapter / "pytorch_lora_weights.safetensors")


def metrics(tmp_path, split="train", out="out") -> list[dict]:
    lines = (tmp_path / out / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def adapter_bytes(report) -> bytes:
    return (report.adapter / "pytorch_lora_weights.safetensors").read_bytes()


@pytest.mark.parametrize("prediction_type", ["epsilon", "v"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_step_zero_logits_are_exactly_zero(request, run_train, tmp_path, prediction_type, checkpointing):
    folder = request.getfixturevalue("model" if prediction_type == "epsilon" else "v_model")
    run_train(model=str(folder), steps=1, gradient_checkpointing=checkpointing)
    first = metrics(tmp_path)[0]
    assert first["logit_mean"] == 0
    assert first["logit_std"] == 0
    assert first["implicit_accuracy"] == 0.5
    assert first["winner_error"] == first["reference_winner_error"]
    assert first["loser_error"] == first["reference_loser_error"]


@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_step_zero_logits_are_exactly_zero_in_half_precision(run_train, tmp_path, dtype):
    report = run_train(steps=2, dtype=dtype)
    assert metrics(tmp_path)[0]["logit_std"] == 0
    assert metrics(tmp_path)[1]["logit_std"] > 0
    assert {value.dtype for value in weights(report).values()} == {torch.float32}


def test_a_policy_that_differs_from_its_reference_at_the_start_is_an_error(run_train, monkeypatch):
    def nudge(name, parameter, rank, seed):
        parameter.data.fill_(0.1)

    monkeypatch.setattr("rpo_cli.train.policy._initialise", nudge)
    with pytest.raises(RpoError, match="differs from its reference before the first step"):
        run_train(steps=1)


@pytest.mark.parametrize("how", [{"rank": 8, "learning_rate": 1e-2}, {"full": True, "learning_rate": 3e-4}])
def test_held_out_loss_goes_down_and_accuracy_up_on_learnable_pairs(run_train, how):
    report = run_train(steps=30, global_batch=8, batch_size=8, beta=1000.0, validate_every=30, **how)
    assert report.train_first["loss"] == pytest.approx(0.6931472)
    assert report.validation_first["implicit_accuracy"] == 0.5
    assert report.validation_last["loss"] < 0.6
    assert report.validation_last["implicit_accuracy"] > 0.7


def test_sft_lowers_the_winners_error_and_never_runs_the_reference_in_training(run_train, tmp_path):
    report = run_train(steps=20, method="sft", learning_rate=1e-2, rank=8)
    assert report.validation_last["winner_error"] < report.validation_first["winner_error"]
    assert "reference_winner_error" not in metrics(tmp_path)[0]
    assert "logit_std" not in report.validation_last
    assert report.validation_last["loss"] == pytest.approx(report.validation_last["winner_error"])


def test_sft_does_not_depend_on_the_losers(run_train, tiny, dataset, tmp_path):
    rows = tiny.bright_beats_dark(10, 0)
    for index, row in enumerate(rows):
        row["jpg_1" if row["label_0"] else "jpg_0"] = tiny.picture(900 + index)
    tiny.write_split(tmp_path / "other", "train", rows)
    one = run_train("a", method="sft")
    other = run_train("b", method="sft", dataset=tmp_path / "other")
    assert weights(one).keys() == weights(other).keys()
    for name, value in weights(one).items():
        assert_close(weights(other)[name], value, FORWARD)


def test_the_split_into_forward_passes_changes_no_step_beyond_rounding(run_train, tmp_path):
    for size in (6, 4, 1):
        run_train(f"size{size}", global_batch=6, batch_size=size, steps=1, weight_decay=0.0)
    whole, *parts = (metrics(tmp_path, out=f"size{size}")[0] for size in (6, 4, 1))
    for part in parts:
        for name in ("loss", "winner_error", "loser_error", "grad_norm"):
            assert part[name] == pytest.approx(whole[name], rel=1e-5), name


def test_gradients_of_micro_batches_add_up_to_the_gradient_of_the_whole(run_train, monkeypatch):
    seen: dict[str, list[torch.Tensor]] = {}
    clip = torch.nn.utils.clip_grad_norm_

    def remember(out):
        def clip_and_remember(parameters, limit):
            parameters = list(parameters)
            seen[out] = [parameter.grad.clone() for parameter in parameters]
            return clip(parameters, limit)

        return clip_and_remember

    for size in (6, 4, 1):
        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", remember(f"size{size}"))
        run_train(f"size{size}", global_batch=6, batch_size=size, steps=1)
    whole, *parts = (torch.cat([g.flatten() for g in seen[f"size{size}"]]) for size in (6, 4, 1))
    for part in parts:
        assert (whole - part).norm() <= 1e-5 * whole.norm()


def test_winner_and_loser_pass_together_and_share_timestep_noise_and_caption(run_train, monkeypatch):
    calls = []
    predict = StableDiffusion1.predict

    def spy(self, unet, noisy, timesteps, condition):
        if not noisy.is_meta:  # as a plan is made
            hidden, grad = condition["hidden"], torch.is_grad_enabled()
            calls.append(SimpleNamespace(noisy=noisy, t=timesteps, hidden=hidden, grad=grad))
        return predict(self, unet, noisy, timesteps, condition)

    monkeypatch.setattr(StableDiffusion1, "predict", spy)
    run_train(steps=1, global_batch=4, batch_size=4, flip=True, caption_dropout=0.5, validate_every=1)
    in_training = [call for call in calls if call.grad]
    assert len(in_training) == 1
    reference = next(
        call for call in calls if not call.grad and torch.equal(call.noisy, in_training[0].noisy)
    )
    for call in (in_training[0], reference):
        assert call.noisy.shape[0] == 8
        assert torch.equal(call.t[:4], call.t[4:])
        assert torch.equal(call.hidden[:4], call.hidden[4:])


def test_both_sides_of_a_batch_come_from_the_same_noise(monkeypatch, run_train):
    seen = []
    add_noise = batch_module.add_noise

    def spy(schedule, latents, noise, timesteps):
        seen.append((latents, noise))
        return add_noise(schedule, latents, noise, timesteps)

    monkeypatch.setattr(batch_module, "add_noise", spy)
    run_train(steps=1)
    for latents, noise in seen:
        winners, losers = noise.chunk(2)
        assert torch.equal(winners, losers)
        assert not torch.equal(*latents.chunk(2))


@pytest.fixture
def trained(monkeypatch):
    """Collects the policy of the training that runs in this test."""
    held = {}
    build = loop_module.build_policy

    def remember(*args):
        held["policy"] = build(*args)
        return held["policy"]

    monkeypatch.setattr(loop_module, "build_policy", remember)
    return held


def test_full_tuning_leaves_its_reference_as_it_was(run_train, trained, model):
    report = run_train(full=True)
    base = StableDiffusion1(str(model)).load_denoiser().state_dict()
    with trained["policy"].reference() as frozen:
        assert all(torch.equal(base[name], value) for name, value in frozen.state_dict().items())
    tuned = load_file(report.adapter / "diffusion_pytorch_model.safetensors")
    assert tuned.keys() == base.keys()
    assert any(not torch.equal(base[name], value) for name, value in tuned.items())


def test_full_tuning_starts_at_exactly_zero_logits(run_train, tmp_path):
    run_train(full=True, steps=2)
    assert [row["logit_std"] == 0 for row in metrics(tmp_path)] == [True, False]


def test_training_touches_no_base_weight_of_a_lora(run_train, trained, model):
    run_train()
    base = StableDiffusion1(str(model)).load_denoiser().state_dict()
    now = {
        name.replace(".base_layer", ""): value
        for name, value in trained["policy"].unet.state_dict().items()
        if "lora_" not in name
    }
    assert now.keys() == base.keys()
    assert all(torch.equal(base[name], value) for name, value in now.items())


def test_the_same_call_twice_gives_the_same_bytes_and_another_seed_others(run_train):
    first, again, other = run_train("a"), run_train("b"), run_train("c", seed=1)
    assert adapter_bytes(first) == adapter_bytes(again)
    assert (first.adapter / "README.md").read_bytes() == (again.adapter / "README.md").read_bytes()
    assert adapter_bytes(first) != adapter_bytes(other)


def test_a_finished_training_returns_at_once_and_loads_no_model(run_train, monkeypatch):
    first = run_train()
    monkeypatch.setattr("rpo_cli.train.loop.run_training", lambda *args: pytest.fail("trained again"))
    again = run_train()
    assert again.skipped
    assert not first.skipped
    assert (again.steps, again.pairs, again.adapter) == (first.steps, first.pairs, first.adapter)
    assert again.validation_last == first.validation_last


def test_other_settings_under_the_same_name_are_refused_and_named(run_train):
    run_train()
    changes = {"beta": 10.0, "seed": 5, "model_identity": "other", "rank": 2, "steps": 5}
    for name, value in changes.items():
        with pytest.raises(UsageError, match="made with other settings") as caught:
            run_train(**{name: value})
        assert name.removesuffix("_identity") in caught.value.message
        assert "--name" in caught.value.hint


def test_a_training_that_failed_before_its_first_checkpoint_binds_nobody(run_train, tiny, tmp_path):
    rows = tiny.bright_beats_dark(3, 0)
    tiny.write_split(tmp_path / "d", "train", [{**row, "label_0": 0.5} for row in rows])
    with pytest.raises(UsageError, match="a tie"):
        run_train(dataset=tmp_path / "d")
    tiny.write_split(tmp_path / "d", "train", rows)
    assert run_train(dataset=tmp_path / "d").steps == 4


def test_looking_more_often_is_not_another_training(run_train):
    run_train()
    assert run_train(validate_every=1, save_every=1).skipped


def test_a_deleted_adapter_is_made_again(run_train):
    report = run_train()
    before = adapter_bytes(report)
    for file in report.adapter.iterdir():
        file.unlink()
    report.adapter.rmdir()
    again = run_train()
    assert not again.skipped
    assert adapter_bytes(again) == before


def test_metrics_have_a_line_per_step_and_per_validation(run_train, tmp_path):
    run_train(steps=5, validate_every=2)
    assert [row["step"] for row in metrics(tmp_path)] == [1, 2, 3, 4, 5]
    assert [row["step"] for row in metrics(tmp_path, "validation")] == [0, 2, 4, 5]
    assert {
        "loss",
        "implicit_accuracy",
        "logit_mean",
        "logit_std",
        "winner_error",
        "loser_error",
        "reference_winner_error",
        "reference_loser_error",
        "grad_norm",
        "learning_rate",
        "pairs_per_second",
    } <= metrics(tmp_path)[0].keys()


def test_warm_up_is_linear_and_then_constant(run_train, tmp_path):
    run_train(steps=5, warmup_steps=4, learning_rate=4e-4)
    rates = [row["learning_rate"] for row in metrics(tmp_path)]
    assert rates == pytest.approx([1e-4, 2e-4, 3e-4, 4e-4, 4e-4])


def test_clipped_gradients_are_logged_unclipped_and_applied_clipped(run_train, tmp_path):
    run_train("loose", steps=1, max_grad_norm=1e6)
    run_train("tight", steps=1, max_grad_norm=1e-6)
    loose, tight = (metrics(tmp_path, out=out)[0]["grad_norm"] for out in ("loose", "tight"))
    assert loose == tight > 1e-3


def test_progress_is_told(run_train):
    observer = Notes()
    run_train(observer=observer)
    assert observer.started[-1] == ("train", 4, 0)
    assert observer.notes[0].startswith(
        "dpo on 10 pairs (4 held out, looked at in 8 draws), 4 a forward pass, "
        "LoRA of rank 4, epsilon model; beta 5000"
    )
    assert "means over C,H,W" in observer.notes[0]


@pytest.mark.parametrize(
    ("changed", "advice"),
    [
        ({"learning_rate": 1e-9}, "raise beta or the learning rate"),
        ({"beta": 1e6}, "lower beta or the learning rate"),
    ],
)
def test_a_logit_spread_far_out_of_range_is_warned_of_within_ten_steps(run_train, changed, advice):
    observer = Notes()
    run_train(steps=10, observer=observer, **changed)
    assert any(advice in note for note in observer.notes)


def test_a_usual_spread_gets_no_warning(run_train):
    observer = Notes()
    run_train(steps=10, observer=observer)
    assert not any("spread" in note for note in observer.notes)


def test_a_data_set_without_validation_trains_and_says_so(run_train, tiny, tmp_path):
    tiny.write_split(tmp_path / "d", "train", tiny.bright_beats_dark(3, 0))
    observer = Notes()
    report = run_train(dataset=tmp_path / "d", observer=observer)
    assert report.validation_last == {}
    assert report.pairs == 3
    assert any("no validation pairs" in note for note in observer.notes)


def test_an_empty_training_split_is_a_usage_error(run_train, tiny, tmp_path):
    row = tiny.bright_beats_dark(1, 0)
    tiny.write_split(tmp_path / "d", "train", row)
    path = next((tmp_path / "d" / "data").iterdir())
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(UsageError, match="the training split is empty"):
        run_train(dataset=tmp_path / "d")


def test_a_loss_that_is_not_finite_stops_with_advice(run_train, monkeypatch):
    predict = StableDiffusion1.predict
    monkeypatch.setattr(
        StableDiffusion1, "predict", lambda self, *args: predict(self, *args) * float("inf")
    )
    with pytest.raises(RpoError, match=r"loss is (nan|inf) at step 1") as caught:
        run_train(method="sft")
    assert "learning rate" in caught.value.hint


def test_out_of_memory_halves_the_forward_pass_and_goes_on(run_train, monkeypatch, tmp_path):
    predict = StableDiffusion1.predict

    def small_memory(self, unet, noisy, timesteps, condition):
        if torch.is_grad_enabled() and len(noisy) > 4:
            raise RuntimeError("CUDA out of memory")
        return predict(self, unet, noisy, timesteps, condition)

    run_train("roomy", batch_size=2)
    monkeypatch.setattr(StableDiffusion1, "predict", small_memory)
    observer = Notes()
    report = run_train("tight", batch_size=4, observer=observer)
    assert "out of memory, going on with 2 pairs per forward pass" in observer.notes
    assert report.steps == 4
    roomy, tight = (metrics(tmp_path, out=out)[-1] for out in ("roomy", "tight"))
    assert tight["loss"] == pytest.approx(roomy["loss"], rel=1e-3)


def test_out_of_memory_with_one_pair_is_an_error_with_advice(run_train, monkeypatch):
    predict = StableDiffusion1.predict

    def no_memory(self, unet, noisy, timesteps, condition):
        if noisy.is_meta:  # as a plan is made
            return predict(self, unet, noisy, timesteps, condition)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StableDiffusion1, "predict", no_memory)
    with pytest.raises(RpoError, match="out of memory") as caught:
        run_train(validate_every=100)
    assert "nothing is lost" in caught.value.hint
