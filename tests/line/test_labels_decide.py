"""Imported pairs that keep their labels need no reward: none scores unless somebody asks for it."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rpo_cli import open_line, plan, run_stage
from rpo_cli.line.dataset.inputs import build_pairs, dataset_is_current
from rpo_cli.line.imports.run import import_source
from rpo_cli.line.run import run
from rpo_cli.line.status import status
from rpo_cli.line.work import base
from tests.observed import Notes

IMPORTED = {"pairs.strategy": "imported", "pairs.val_fraction": 0.0}
PAIRS = 4


class Brightness:
    """A reward: the mean grey level."""

    def setup(self): ...

    def score(self, prompts, images):
        return [float(np.asarray(image).mean()) for image in images]


def grey(level):
    pixels = np.full((8, 8, 3), level, np.uint8)
    pixels[::2, level % 8] = 255 - level  # so that no two look alike
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def pairs(tmp_path):
    """A run of the preset shapes with four pairs of others."""
    rows = [
        {"prompt": f"a picture of {n}", "chosen": grey(20 * n + 10), "rejected": grey(20 * n + 20)}
        for n in range(PAIRS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    import_source(open_line(tmp_path / "run", preset="shapes"), tmp_path / "pairs.parquet")
    return tmp_path / "run"


@pytest.fixture
def scorers(monkeypatch):
    """Names of the rewards that were built; each scores by brightness."""
    built = []

    def backend(kind, name, ref, **options):
        built.append(name)
        return Brightness()

    monkeypatch.setattr(base, "build_backend", backend)
    return built


def opened(pairs, options=None, *, preset=None):
    notes = Notes()
    line = open_line(pairs, {**IMPORTED, **(options or {})}, preset=preset, observer=notes)
    return line, notes


def test_labels_that_decide_ask_no_reward_of_the_preset(pairs, scorers):
    line, notes = opened(pairs)

    found = run_stage(line, "score")
    report = build_pairs(line)

    assert (found.wanted, scorers) == (0, [])
    assert (report.accepted, report.dropped) == (PAIRS, {})
    assert len(line.store.keys("rewards")) == 0
    assert [text for text in notes.said if "no reward is needed" in text] == [
        "no reward is needed: labels decide; clip, vqascore (preset shapes) score nothing; "
        "--reward NAME=MODEL asks for one"
    ]


def test_the_whole_line_asks_none_either_and_its_dataset_is_current(pairs, scorers):
    line, _ = opened(pairs)
    report = run(line, "build-pairs")

    assert (report.pairs.accepted, scorers) == (PAIRS, [])
    assert dataset_is_current(open_line(pairs))
    assert "vqascore" not in (pairs / "dataset" / "README.md").read_text()
    (row, *_) = pq.read_table(next((pairs / "dataset" / "data").glob("*.parquet"))).to_pylist()
    assert "rewards_0" not in row
    assert (row["margin"], row["pair_kind"]) == (0.0, "import")


ASKED = {
    "a reward of the user's": ({"score.rewards": ("clip={reward}",)}, ["clip"]),
    "the choice among attempts": ({"pairs.select_by": "clip"}, ["clip", "vqascore"]),
    "a weight": ({"pairs.reward_weights": ("vqascore=2",)}, ["clip", "vqascore"]),
    "labels of the rewards": ({"pairs.labels": "rewards"}, ["clip", "vqascore"]),
    "pairs of seeds beside": ({"pairs.strategy": "seeds"}, ["clip", "vqascore"]),
    "pairs of everything": ({"pairs.strategy": "all"}, ["clip", "vqascore"]),
}


@pytest.mark.parametrize(("options", "names"), ASKED.values(), ids=ASKED)
def test_who_asks_for_a_reward_has_it(pairs, scorers, options, names):
    own = open_line(pairs).settings.score.rewards[0].partition("=")[2]
    options = {
        name: tuple(item.format(reward=own) for item in value) if isinstance(value, tuple) else value
        for name, value in options.items()
    }
    line, notes = opened(pairs, options)

    found = run_stage(line, "score")
    build_pairs(line)

    assert (found.wanted, scorers) == (2 * PAIRS * len(names), names)
    assert not [text for text in notes.said if "no reward is needed" in text]


def test_what_a_command_was_told_counts_for_the_next_ones(pairs, scorers):
    """Once asked for, a reward stays until it is taken back."""
    own = open_line(pairs).settings.score.rewards[0]
    line, _ = opened(pairs, {"score.rewards": (own,)})
    run_stage(line, "score")
    build_pairs(line)

    again, _ = opened(pairs)
    assert [item.wanted for item in plan(again, ["score"])] == [2 * PAIRS]
    assert not build_pairs(again).fresh

    back = open_line(pairs, unset=("score.rewards",))
    assert plan(back, ["score"]) == []
    assert build_pairs(back).fresh
    assert build_pairs(back).accepted == PAIRS


def test_a_line_of_the_users_own_file_asks_too(pairs, scorers):
    own = open_line(pairs).settings.score.rewards[0]
    (pairs / "rpo.toml").write_text(f'[score]\nrewards = ["{own}"]\n')
    line, _ = opened(pairs)

    run_stage(line, "score")

    assert scorers == ["clip"]


def test_a_presets_names_of_rewards_refuse_nothing_where_none_scores(pairs, scorers):
    """sd15 lets clip choose among attempts; labels need neither."""
    line, notes = opened(pairs, preset="sd15")
    assert line.settings.pairs.select_by == "clip"

    run_stage(line, "score")
    report = build_pairs(line)

    assert (report.accepted, scorers) == (PAIRS, [])
    assert any("(preset sd15)" in text for text in notes.said)
    assert not build_pairs(opened(pairs, preset="sd15")[0]).fresh


def test_a_plan_and_the_status_tell_of_no_score_to_come(pairs):
    line, notes = opened(pairs)
    assert plan(line, ["score"]) == []
    assert any("no reward is needed" in text for text in notes.said)
    line.record()
    assert [stage.missing for stage in status(pairs).stages if stage.stage == "score"] in ([], [0])


def test_where_nothing_is_named_nothing_is_said(pairs, scorers):
    line, notes = opened(pairs, {"score.rewards": ()})
    run_stage(line, "score")
    assert build_pairs(line).accepted == PAIRS
    assert not [text for text in notes.said if "reward" in text]


def test_scores_that_are_there_tell_nothing_once_labels_decide(pairs, scorers):
    """What a dataset is built from hangs on the settings, not on what was scored before."""
    line, _ = opened(pairs, {"pairs.strategy": "seeds"})
    run_stage(line, "score")
    build_pairs(line)
    scored = build_pairs(opened(pairs)[0])
    margins = [row["margins"] for row in line.store.columns("pairs", ["margins"]).to_pylist()]

    assert len(line.store.keys("rewards")) == 4 * PAIRS
    assert (scored.accepted, margins) == (PAIRS, [[]] * PAIRS)
