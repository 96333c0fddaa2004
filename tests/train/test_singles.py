"""kto on pictures that were judged one by one: as many good and bad ones as there are."""

import csv
import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from rpo_cli import open_line
from rpo_cli.config import TrainSettings
from rpo_cli.errors import SettingsError, UsageError
from rpo_cli.line.training import dataset_of
from rpo_cli.train import loop as loop_module
from rpo_cli.train.composition import composed, for_data
from rpo_cli.train.data.singles import Single, read_singles, singles_fingerprint
from rpo_cli.train.objectives.components import single
from rpo_cli.train.objectives.grouped import KTO
from rpo_cli.train.objectives.objective import Errors, Known, implicit_margin
from tests.closeness import assert_close

FILE = "pytorch_lora_weights.safetensors"
ALONE = replace(KTO, contrast=single, list_size=1)


def write(folder, split, pictures) -> None:
    """`pictures`: (bytes, caption, label)."""
    (folder / split / "images").mkdir(parents=True)
    with (folder / split / "metadata.csv").open("w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(("file_name", "caption", "label"))
        for number, (data, caption, label) in enumerate(pictures):
            name = f"images/{number}.png"
            (folder / split / name).write_bytes(data)
            writer.writerow((name, caption, label))


@pytest.fixture(scope="module")
def judged(tmp_path_factory, tiny):
    """Seven good pictures and three bad ones; two of either held out."""
    folder = tmp_path_factory.mktemp("judged")

    def some(good, bad, seed):
        bright = [(tiny.picture(seed + i, (220, 220, 220)), "a red thing", True) for i in range(good)]
        dark = [(tiny.picture(seed + 50 + i, (30, 30, 30)), "a blue thing", False) for i in range(bad)]
        return bright + dark

    write(folder, "train", some(7, 3, 0))
    write(folder, "validation", some(2, 2, 900))
    return folder


@pytest.fixture
def run_judged(run_train, judged):
    def call(out="out", **given):
        given = {"method": "kto", "group_size": 4, "learning_rate": 1e-2, "dataset": judged, **given}
        return run_train(out, **given)

    return call


def rows(report, split: str) -> list[dict]:
    lines = (report.adapter.parent / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def errors(policy, reference, good) -> Errors:
    return Errors(
        torch.tensor(policy), torch.tensor(reference), known=Known(good=torch.tensor(good)), width=1
    )


def test_the_offset_of_single_pictures_carries_no_gradient():
    m = torch.full((2,), 0.1, requires_grad=True)
    found = Errors(m, torch.full((2,), 0.2), known=Known(good=torch.tensor([1.0, -1.0])), width=1)
    z = replace(ALONE, group_size=2).logits(found, 10.0)
    assert z.detach().flatten().tolist() == [pytest.approx(0.0)] * 2  # both are better by Q
    z.flatten()[1].backward()
    assert m.grad.tolist() == [0.0, 5.0]


def test_loss_by_hand():
    """β = 2, v = r − m = (.3, −.1, .4), Q = .2; z = (.1, .3, .2) with signs (+, −, +)."""
    objective = replace(ALONE, group_size=3, undesirable_weight=2.0)
    given = errors([0.7, 1.1, 0.6], [1.0, 1.0, 1.0], [1.0, -1.0, 1.0])
    assert_close(objective.logits(given, 2.0), torch.tensor([[0.1, 0.3, 0.2]]))
    expected = torch.sigmoid(-torch.tensor([0.1, 0.3, 0.2])) * torch.tensor([1.0, 2.0, 1.0])
    assert_close(objective.losses(given, 2.0), expected)
    assert_close(implicit_margin(given), torch.tensor([0.3, 0.1, 0.4]))


def test_as_many_of_either_give_the_loss_and_the_slopes_of_pairs():
    generator = torch.Generator().manual_seed(0)
    policy = torch.rand(8, generator=generator, requires_grad=True)
    reference = torch.rand(8, generator=generator)
    good = torch.tensor([1.0] * 4 + [-1.0] * 4)
    paired = replace(KTO, group_size=4).losses(Errors(policy, reference), 3.0).mean()
    alone = replace(ALONE, group_size=8).losses(
        Errors(policy, reference, known=Known(good=good), width=1), 3.0
    )
    assert_close(alone.mean(), paired)
    slopes = [torch.autograd.grad(loss, policy)[0] for loss in (paired, alone.mean())]
    assert_close(slopes[1], slopes[0])
    assert (slopes[0][:4] > 0).all()  # a good picture's error falls, a bad one's rises
    assert (slopes[0][4:] < 0).all()


def test_it_starts_at_zero_learns_and_tells_each_side(run_judged):
    report = run_judged(steps=3)
    train_rows = rows(report, "train")
    assert report.pairs == 10
    assert train_rows[0]["loss"] == 0.5
    assert train_rows[0]["logit_mean"] == train_rows[0]["logit_std"] == 0.0
    assert train_rows[-1]["logit_std"] > 0
    assert report.validation_first["implicit_accuracy"] == 0.5
    assert {"winner_advantage", "loser_advantage"} <= report.validation_last.keys()
    assert "10 judged pictures" in (report.adapter / "README.md").read_text()


def test_a_cut_training_goes_on_to_the_same_bytes(run_judged, monkeypatch):
    whole = run_judged("whole", steps=3, save_every=1)
    step = loop_module.timed_step

    def cut(job, state, observer):
        if state.step == 2:
            raise KeyboardInterrupt
        return step(job, state, observer)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "timed_step", cut)
        with pytest.raises(KeyboardInterrupt):
            run_judged("cut", steps=3, save_every=1)
    resumed = run_judged("cut", steps=3, save_every=1)
    assert (resumed.adapter / FILE).read_bytes() == (whole.adapter / FILE).read_bytes()


@pytest.mark.slow
def test_the_split_into_forward_passes_changes_nothing(run_judged):
    one = load_file(run_judged("one", steps=2).adapter / FILE)
    several = load_file(run_judged("several", steps=2, batch_size=3).adapter / FILE)
    for name, value in one.items():  # AdamW makes a move of 1e-2 of any slope, also of rounding
        assert (several[name] - value).norm() <= 1e-3 * value.norm() + 1e-5, name


def test_judged_pictures_are_told_apart_by_picture_caption_and_label(tmp_path, tiny):
    first, second = tiny.picture(1), tiny.picture(2)
    tables = {
        "as it was": [(first, "red", True), (second, "blue", False)],
        "judged otherwise": [(first, "red", False), (second, "blue", True)],
        "of another prompt": [(first, "red", True), (second, "green", False)],
        "another picture": [(second, "red", True), (second, "blue", False)],
    }
    for name, pictures in tables.items():
        write(tmp_path / name, "train", pictures)
    assert len({singles_fingerprint(tmp_path / name) for name in tables}) == 4


def test_captions_are_read_as_they_stand_in_either_table(tmp_path, tiny):
    captions = ["'=a formula", "'tis\na \u2028 line", "null"]
    pictures = [(tiny.picture(n), caption, n % 2) for n, caption in enumerate(captions)]
    write(tmp_path / "csv", "train", pictures)
    write(tmp_path / "jsonl", "train", pictures)
    (tmp_path / "jsonl" / "train" / "metadata.csv").unlink()
    with (tmp_path / "jsonl" / "train" / "metadata.jsonl").open("w") as table:
        for n, (_, caption, label) in enumerate(pictures):
            row = {"file_name": f"images/{n}.png", "caption": caption, "label": bool(label)}
            table.write(json.dumps(row, ensure_ascii=False) + "\n")
    for name in ("csv", "jsonl"):
        found = read_singles(tmp_path / name, "train")
        assert [(item.caption, item.good) for item in found] == [
            (caption, n % 2 == 1) for n, caption in enumerate(captions)
        ]
        assert all(isinstance(item, Single) and len(item.pictures) == 1 for item in found)
        assert read_singles(tmp_path / name, "validation") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"file_name": "images/0.png", "caption": 1, "label": true}',
            "line 1: file_name and caption are text",
        ),
        ('{"file_name": "images/0.png", "caption": "a"}', "no column label"),
        ('{"file_name": "images/0.png", "caption": "a", "label": null}', "row 0: a value is missing"),
        ('{"file_name": "../0.png", "caption": "a", "label": true}', "row 0: no file"),
        ("[1]", "no column file_name"),
        ("{", "line 1: "),
    ],
)
def test_a_wrong_json_line_is_told(tmp_path, tiny, text, said):
    write(tmp_path, "train", [(tiny.picture(1), "a", True)])
    (tmp_path / "train" / "metadata.jsonl").write_text(text + "\n")
    with pytest.raises(UsageError, match=re.escape(said)):
        read_singles(tmp_path, "train")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"file_name,caption,label\nimages/0.png,a cat, on white,1\n", "metadata.csv:2: 4 cells"),
        (b'file_name,caption,label\nimages/0.png,"a cat,1\n', "metadata.csv:2: a quote that opens"),
        (b"file_name,caption,label\nimages/0.png,caf\xe9,1\n", "line 2: byte 40 "),
        ("file_name,caption,label\nimages/0.png,a,1\n".encode("utf-16"), "is UTF-16"),
    ],
)
def test_a_table_that_no_reading_fits_is_refused_with_its_place(tmp_path, tiny, text, said):
    write(tmp_path, "train", [(tiny.picture(1), "a", True)])
    (tmp_path / "train" / "metadata.csv").write_bytes(text)
    with pytest.raises(UsageError, match=re.escape(said)):
        read_singles(tmp_path, "train")


def test_a_mark_and_semicolons_are_read_as_imports_read_them(tmp_path, tiny):
    write(tmp_path, "validation", [(tiny.picture(1), "a", True)])
    text = '\ufefffile_name;caption;label\nimages/0.png;"a, b";1\n'
    (tmp_path / "validation" / "metadata.csv").write_text(text, encoding="utf-8")
    assert [item.caption for item in read_singles(tmp_path, "validation")] == ["a, b"]


@pytest.mark.parametrize("label", ["0.5", "", "good", "2"])
def test_a_label_that_is_neither_is_named_by_row(label, tmp_path, tiny):
    write(tmp_path, "train", [(tiny.picture(1), "a", True), (tiny.picture(2), "b", label)])
    with pytest.raises(UsageError, match=r"train/metadata.csv row 1: label is .* neither 0 nor 1"):
        read_singles(tmp_path, "train")


def test_wrong_tables_are_told(tmp_path, tiny):
    one = tiny.picture(1)
    write(tmp_path / "twice", "train", [(one, "a", True), (one, "a", False)])
    with pytest.raises(
        UsageError, match=r"row 1: the same picture and caption as train/metadata\.csv row 0"
    ):
        read_singles(tmp_path / "twice", "train")
    write(tmp_path / "good", "train", [(one, "a", True)])
    with pytest.raises(UsageError, match="every picture of the training split is good"):
        read_singles(tmp_path / "good", "train")
    (tmp_path / "secret.png").write_bytes(one)
    for name in ("../../secret.png", str(tmp_path / "secret.png"), "images/none.png"):
        (tmp_path / "good" / "train" / "metadata.csv").write_text(f"file_name,caption,label\n{name},a,1\n")
        with pytest.raises(UsageError, match="row 0: no file"):
            read_singles(tmp_path / "good", "train")
    (tmp_path / "good" / "train" / "metadata.csv").write_text("file_name,label\na.png,1\n")
    with pytest.raises(UsageError, match="no column caption"):
        read_singles(tmp_path / "good", "train")


def test_what_needs_pairs_is_refused_at_once(run_judged, judged, monkeypatch, tmp_path):
    monkeypatch.setattr(loop_module, "open_family", lambda *given: pytest.fail("a model was opened"))
    with pytest.raises(SettingsError, match="dpo compares pictures of a pair"):
        run_judged(method="dpo", group_size=None)
    with pytest.raises(SettingsError) as told:
        run_judged(pair_weight="margin", sft_weight=0.1)
    assert "train.pair_weight" in str(told.value)
    assert "train.sft_weight" in str(told.value)
    assert for_data(KTO, None, tmp_path) is KTO


@pytest.mark.slow
def test_several_processes_train_what_one_does(victim, judged, model, tmp_path):
    """One group of eight, spread over both."""
    settings = {"method": "kto", "group_size": 8, "global_batch": 8, "batch_size": 3, "steps": 1}
    settings |= {"rank": 4, "warmup_steps": 0, "learning_rate": 1e-3, "flip": True, "validation_draws": 8}
    job = {"dataset": str(judged), "model": str(model), "revision": None, "model_identity": str(model)}
    job |= {"cache": str(tmp_path / "cache"), "seed": 0, "device": "cpu", "threads": 1}
    job |= {"settings": settings}
    for count in (1, 2):
        told = {"out": str(tmp_path / str(count)), "gradient": str(tmp_path / f"{count}-"), "ranks": count}
        victim.start(job | told)
        for _ in range(count - 1):
            victim.read()
        assert [victim.wait() for _ in range(count)] == [0] * count
    whole = load_file(tmp_path / "1-0")["gradient"]
    for rank in range(2):
        found = load_file(tmp_path / f"2-{rank}")["gradient"]
        assert (found - whole).norm() <= 1e-5 * whole.norm()


def test_a_folder_without_anything_to_learn_from_is_told(tmp_path, judged):
    settings = {"train.method": "kto", "train.model": "m"}
    (tmp_path / "empty").mkdir()
    line = open_line(tmp_path / "run", {**settings, "train.dataset": str(tmp_path / "empty")})
    with pytest.raises(UsageError, match=r"holds no pairs .* and no judged pictures"):
        dataset_of(line, line.settings.train)
    named = open_line(tmp_path / "run", {**settings, "train.dataset": str(judged)})
    assert dataset_of(named, named.settings.train) == judged
    own = open_line(tmp_path / "run", settings)
    assert dataset_of(own, own.settings.train) == tmp_path / "run" / "dataset"
    rounds = TrainSettings(method="kto", dataset=str(judged), rounds=2)
    with pytest.raises(SettingsError, match=r"train\.dataset: rounds make their own pairs"):
        composed(rounds)
