"""A training is cut to the memory there is before it begins, says so, and stays as it was cut."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional

from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError, Terminated
from rpo_cli.train.families.family import Folder, open_family
from rpo_cli.train.look_ahead import memory as memory_module
from rpo_cli.train.look_ahead.memory import LIBRARIES, fit, kept_bytes
from rpo_cli.train.loop import passes_of
from rpo_cli.train.objectives.presets import DPO
from tests.observed import StopsAt


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, tokens):
        query = tokens * self.scale
        return functional.scaled_dot_product_attention(query, key=query, value=query)


def test_the_weights_of_attention_are_not_kept():
    """2 heads of 512 tokens of 4 numbers: what is multiplied, the query, the result, and a sum a token."""
    with torch.device("meta"):
        module, tokens = Attention(), torch.zeros(1, 2, 512, 4)
    kept = kept_bytes(module, lambda: module(tokens), checkpointing=False)
    assert kept == 4 * (3 * 2 * 512 * 4 + 2 * 512)


def fitting(model, free, monkeypatch, **settings):
    monkeypatch.setattr(memory_module, "free_memory", lambda device: free)
    family = open_family(str(model))
    told = TrainSettings(rank=4, **{"batch_size": 16, "global_batch": 16, **settings})
    return fit(told, DPO, family, Folder(str(model), None), "cpu")


@pytest.fixture
def item(model, monkeypatch):
    """Bytes of one more item in a pass."""
    one, two = (fitting(model, None, monkeypatch, batch_size=size).memory.total for size in (1, 2))
    return two - one


def test_the_largest_half_that_fits_is_chosen(model, monkeypatch, item):
    whole = fitting(model, None, monkeypatch)
    assert (whole.batch_size, whole.checkpointing, whole.fits) == (16, False, True)
    rest = whole.memory.total - 16 * item
    assert rest > LIBRARIES
    for items, size in ((16.5, 16), (15.5, 8), (4.5, 4), (1.5, 1)):
        cut = fitting(model, int((rest + items * item) / 0.9), monkeypatch)
        assert (cut.batch_size, cut.checkpointing) == (size, False)
        assert cut.whole == pytest.approx(whole.memory.total, abs=16)


def test_a_batch_that_is_no_power_of_two_is_halved_down_to_one(model, monkeypatch):
    assert fitting(model, 1, monkeypatch, batch_size=12).batch_size == 1
    assert fitting(model, None, monkeypatch, batch_size=12).batch_size == 12


def test_checkpointing_comes_on_where_not_even_one_fits_without(model, monkeypatch, item):
    rest = fitting(model, None, monkeypatch, batch_size=1).memory.total - item
    cut = fitting(model, int((rest + 0.9 * item) / 0.9), monkeypatch)
    assert cut.checkpointing
    assert cut.fits
    (note,) = cut.notes(16, False)
    assert "instead of 16, and gradient checkpointing: as set it takes some 0.6 GB" in note


def test_processes_on_one_machine_share_its_memory(model, monkeypatch):
    assert fitting(model, 8 << 30, monkeypatch, processes=4).free == 2 << 30


def test_where_nothing_fits_the_training_is_tried_and_that_is_told(model, monkeypatch):
    cut = fitting(model, 1000, monkeypatch)
    assert (cut.batch_size, cut.checkpointing, cut.fits) == (1, True, False)
    assert "not even one a forward pass is sure to fit" in list(cut.notes(16, False))[-1]


def test_unknown_memory_changes_nothing_and_says_nothing(model, monkeypatch):
    assert list(fitting(model, None, monkeypatch).notes(16, False)) == []


def begins(observer: StopsAt, how: str) -> list[str]:
    return [note for note in observer.said if note.startswith(how)]


def test_a_training_says_how_it_was_cut_and_goes_on_so(run_train, tmp_path, monkeypatch):
    def passes():
        return json.loads((tmp_path / "out" / "settings.json").read_text())["passes"]

    first, second = StopsAt(stop=2), StopsAt()
    monkeypatch.setattr(memory_module, "free_memory", lambda device: 1)
    with pytest.raises(Terminated):
        run_train(observer=first, save_every=1)
    assert len(begins(first, "1 a forward pass instead of 4, and gradient checkpointing")) == 1
    assert passes() == {"batch_size": 1, "gradient_checkpointing": True}
    monkeypatch.setattr(memory_module, "free_memory", lambda device: None)
    run_train(observer=second, save_every=1)
    assert passes() == {"batch_size": 1, "gradient_checkpointing": True}
    for observer in (first, second):
        (line,) = begins(observer, "dpo on")
        assert ", 1 a forward pass, " in line


def test_a_checkpoint_whose_settings_are_gone_is_planned_anew(tmp_path):
    assert passes_of(tmp_path) is None
    (tmp_path / "settings.json").write_text('{"key": "k", "identity": {}}')
    assert passes_of(tmp_path) is None


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_training_does_not_go_on_from_a_damaged_checkpoint(run_train, tmp_path, damage):
    with pytest.raises(Terminated):
        run_train(observer=StopsAt(stop=2), save_every=1)
    (path,) = (tmp_path / "out").glob("checkpoint-*")
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes({"flipped": data, "cut": data[: len(data) // 2], "empty": b""}[damage])
    with pytest.raises(RpoError, match="damaged after it was written") as caught:
        run_train(save_every=1)
    assert str(path) in str(caught.value)
    path.unlink()
    assert run_train(save_every=1).steps == 4
