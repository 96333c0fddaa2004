"""Defects that public preference trainers ship, and the tests that fail on them.

Each was found by running or reading the peer's own script. Each entry: the defect, its test.

- the reference's error is reduced in half precision
  test_step.test_errors_are_reduced_in_float32
- equal models start with logits other than 0
  test_loop.test_step_zero_logits_are_exactly_zero
- the same in half precision
  test_loop.test_step_zero_logits_are_exactly_zero_in_half_precision
- a resumed LoRA trains a second adapter, saves zeros
  test_defects.test_a_resumed_lora_goes_on_to_learn
- a listed loss crashes on an option it lacks
  test_step.test_every_listed_method_has_the_beta_it_is_asked_for
- a listed loss is not there
  test_methods.test_every_method_trains_and_starts_at_its_reference
- the sign of the preference is reversed
  test_objective_contract.test_the_loss_pulls_winners_down_and_pushes_losers_up_or_leaves_them
- gradient clipping gets a consumed iterator
  test_step.test_what_the_optimiser_gets_is_clipped
- the same where the policy samples
  online/test_teacher.test_the_gradient_is_clipped_before_the_step
- a clamp kills pairs that went the wrong way
  test_objective_contract.test_only_a_side_that_moved_the_right_way_beyond_the_band_stops_teaching
- the same on sampled steps
  online/test_losses.test_a_winner_gone_wrong_keeps_its_gradient_in_ppod_and_loses_it_in_d3po
- log(sigmoid(x)) is -inf for very negative logits
  test_objective_links.test_gradients_are_finite_at_any_logit
- each side of a pair is flipped by itself
  test_item_errors.test_both_sides_are_mirrored_or_neither
- accumulation only shrinks the loss
  test_loop.test_gradients_of_micro_batches_add_up_to_the_gradient_of_the_whole
- a resumed run skips into another order
  test_loop_resumed.test_a_training_stopped_at_a_step_ends_with_the_same_bytes
- only rank 0 is restored, ranks go apart
  test_processes.test_two_processes_of_which_one_is_killed_at_random_end_soon_and_go_on_to_the_same_bytes
- the batch mean is taken inside the sigmoid
  test_step.test_the_loss_is_the_mean_of_the_links_and_not_the_link_of_the_mean
- ties are trained as wins of one side
  test_pairs.test_a_pair_without_a_clear_winner_is_refused_by_row
- a caption is dropped for one side only
  test_item_errors.test_a_dropped_caption_is_dropped_for_both_sides
- cached latents lose the winner's place
  test_item_errors.test_winners_stand_first_and_losers_follow_in_the_same_order
- the group's reward baseline is not shared by ranks
  test_processes.test_several_processes_train_what_one_does"""

import ast
from itertools import pairwise
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rpo_cli.errors import Terminated
from rpo_cli.protocols import Silent

HERE = Path(__file__).parent
LINES = (__doc__ or "").splitlines()
TABLE = [(line[2:], *below.strip().split(".")) for line, below in pairwise(LINES) if line.startswith("- ")]
LORA = "pytorch_lora_weights.safetensors"


@pytest.mark.parametrize(("defect", "file", "test"), TABLE, ids=[row[2] for row in TABLE])
def test_a_defect_has_its_test(defect, file, test):
    tree = ast.parse((HERE / f"{file}.py").read_text(encoding="utf-8"))
    assert len(TABLE) == 21
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, defect


class StopAt(Silent):
    """An observer that stops the training at one optimiser step."""

    def __init__(self, step: int) -> None:
        self._left, self._training = step, False

    def start(self, stage, total, present) -> None:
        self._training = stage == "train"

    def advance(self, rows, rejects) -> None:
        self._left -= self._training
        if self._left == 0:
            raise Terminated


def test_a_resumed_lora_goes_on_to_learn(run_train, tmp_path):
    """Found in diffusers: the file of a resumed training holds an all-zero LoRA."""
    told = {"steps": 6, "save_every": 2}
    with pytest.raises(Terminated):
        run_train(observer=StopAt(5), **told)
    (saved,) = (tmp_path / "out").glob("checkpoint-*")
    before = {name: value for name, value in load_file(saved).items() if name.startswith("weight.")}
    after = load_file(run_train(**told).adapter / LORA)
    assert len(after) == len(before)  # one adapter, not two
    ups = [name for name in after if "lora_B" in name]
    assert ups
    for name in ups:
        old = before[f"weight.{name.removeprefix('unet.').replace('.weight', '.default.weight')}"]
        assert after[name].abs().sum() > 0
        assert not after[name].equal(old)
