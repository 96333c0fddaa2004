"""Arms of a bench share one run and nothing else."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from rpo_cli import run_stage
from rpo_cli.pictures import decode
from rpo_cli.shapes.grammar import CAPTION_VARIANTS, caption, parse_caption
from rpo_cli.shapes.prompts import prompts
from tests.bench import evidence, mismatched
from tests.bench.cells import cells
from tests.bench.curve import Point, curve
from tests.bench.forest import Row, forest
from tests.bench.lines import data_inputs, dataset_line, pictures_of
from tests.bench.mismatched import changed, differences, of_another, of_changed
from tests.bench.tuned import max_t
from tests.bench.variants import run_name

DATA = {"split": "train", "prompts": 2, "prompt_seed": 0, "run_seed": 0, "options": {"run.threads": 1}}


def test_options_of_one_arm_are_gone_in_the_next(tmp_path: Path) -> None:
    ungated = {"pairs.strategy": "edits", "pairs.min_margin": 0.0, "score.rewards": ["clip=here"]}
    dataset_line(DATA, tmp_path, ungated).record()

    after = dataset_line(DATA, tmp_path).settings

    assert after.pairs.strategy == "all"
    assert after.pairs.min_margin == 0.5
    assert [one.partition("=")[0] for one in after.score.rewards] == ["clip", "vqascore"]
    assert after.run.threads == 1


def test_a_difference_that_many_comparisons_would_show_by_chance_is_told_as_such() -> None:
    """Twenty arms of noise alone beside one that is better by three standard errors, and by seven."""
    rng = np.random.default_rng(1)
    noise = {f"noise {n}": rng.random((3, 400)) for n in range(20)}
    for shift, told in ((0.05, 0.2), (0.15, 0.001)):
        arms = {"base": rng.random((3, 400)), "better": rng.random((3, 400)) + shift, **noise}
        alone = max_t(arms, [("better", "base")])
        together = max_t(arms, [("better", "base"), *((name, "base") for name in noise)])

        assert alone[0] <= together[0] <= told
        assert max(together[1:]) > 0.5


def test_arms_share_a_run_only_where_its_rows_are_made_alike() -> None:
    arms = {arm["name"]: arm for arm in tomllib.loads(evidence.PROTOCOL.read_text())["arms"]}
    names = ("line, counter", "edits, counter", "edits, random instructions", "both, worse judges")
    apart = [run_name(arms[name]) for name in (*names, "seeds, equal compute")]

    assert len({*apart}) == len(apart)
    assert run_name(arms["line, counter"]) == run_name(arms["all, counter"])


def test_a_forest_plot_draws_values_to_scale_and_names_as_text() -> None:
    """The axis goes from -2 to 2 over 466 units that begin at 230, so a point is 116.5 wide."""
    drawn = forest([Row("<b>", 1.0, -1.0, 2.0)], "points")

    assert '<circle class="dot" cx="579.5"' in drawn
    assert '<line class="bar" x1="346.5" x2="696.0"' in drawn
    assert '<line class="zero" x1="463.0"' in drawn
    assert "&lt;b&gt;" in drawn
    assert "<b>" not in drawn


def test_a_table_of_nothing_measured_says_so_and_draws_nothing(tmp_path: Path) -> None:
    protocol = tomllib.loads(evidence.PROTOCOL.read_text()) | {"eval": {"prompts": 1}}
    bench = evidence.Evidence(protocol, tmp_path, "test")

    assert bench.table() == "nothing measured yet\n"
    assert bench.rows() == []


def test_a_curve_draws_values_to_scale_and_names_at_its_ends_apart() -> None:
    """Shares from .70 to .90 over 276 pixels; places a doubling apart lie 251 apart."""
    line = [Point(1.0, 0.8, 0.7, 0.9), Point(2.0, 0.9, 0.85, 0.9), Point(4.0, 0.7, 0.7, 0.75)]

    drawn = curve({"<b>": line, "other": [Point(4.0, 0.7, 0.7, 0.75)]}, "share")

    assert '<polyline class="line" points="68.5,182.0 319.5,44.0 570.5,320.0"/>' in drawn
    assert '<line class="bar" x1="68.5" x2="68.5" y1="320.0" y2="44.0"/>' in drawn
    assert "&lt;b&gt;" in drawn
    assert 'y="320.0" dy="4">&lt;b&gt;' in drawn
    assert 'y="336.0" dy="4">other' in drawn
    for tick in ("0.70", "0.75", "0.90", "1", "2", "4"):
        assert f">{tick}</text>" in drawn


def test_a_changed_prompt_asks_for_one_thing_else_in_the_same_words() -> None:
    for prompt in prompts("train", 200, 0):
        other = changed(prompt)
        before, after = parse_caption(prompt), parse_caption(other)

        assert before is not None
        assert after is not None
        assert differences(before, after) == 1
        words = [
            [caption(scene, variant) == said for variant in range(CAPTION_VARIANTS)]
            for scene, said in ((before, prompt), (after, other))
        ]
        assert words[0] == words[1]
        assert any(words[0])


def test_a_changed_prompts_picture_begins_with_the_noise_of_the_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is changed, it is the own picture; where something is, another."""
    few = {**DATA, "options": {**DATA["options"], "generate.steps": 2, "generate.images_per_prompt": 1}}
    line = dataset_line(few, tmp_path)
    run_stage(line, "generate")
    own = [(prompt, picture) for prompt, picture, _ in pictures_of(line)]

    others = of_changed(line, own)
    monkeypatch.setattr(mismatched, "changed", lambda prompt: prompt)
    same = of_changed(line, own)

    for (_, picture), unchanged, other in zip(own, same, others, strict=True):
        assert drift(picture, unchanged) < 0.5
        assert drift(picture, other) > 0.5


def drift(one: bytes, other: bytes) -> float:
    """Mean difference of two pictures in grey levels."""
    return float(np.abs(np.asarray(decode(one), float) - np.asarray(decode(other), float)).mean())


def test_another_prompts_picture_is_of_another_scene(tmp_path: Path) -> None:
    """Prompts that say the same in other words have no mismatch to teach."""
    first, same, other = (
        "small red star, top, white background",
        "a small red star at the top of a white background",
        "small blue star, top, white background",
    )
    own = [(first, b"1"), (same, b"2"), (other, b"3")]

    assert of_another(dataset_line(DATA, tmp_path), own) == [b"3", b"3", b"1"]


def test_the_benches_pairs_have_no_floor_and_their_cells_do_not_say_so(tmp_path: Path) -> None:
    """As the committed cells were measured."""
    here = Path(evidence.__file__).parent
    data = tomllib.loads((here / "evidence.toml").read_text())["data"]
    assert dataset_line(data, tmp_path).settings.edit.floor_pictures == 0
    (committed,) = (cell for cell in cells("evidence") if cell["name"] == "dataset")
    assert data_inputs(data, tmp_path)["settings"] == committed["inputs"]["settings"]
