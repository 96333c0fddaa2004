"""What the labels of a small dataset are worth, counted by hand."""

import io
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rpo_cli import open_line
from rpo_cli.errors import UsageError
from rpo_cli.exchange.card import MARK
from rpo_cli.exchange.dataset import ranking_id, schema
from rpo_cli.line.evaluation.evaluate import measure_key
from rpo_cli.line.evaluation.labels import audit, probes
from rpo_cli.records import Verdict, content_key
from rpo_cli.shapes.grammar import parse_caption
from rpo_cli.shapes.render import render
from rpo_cli.store import open_store
from tests.reviewed import pair_of

CAPTIONS = (
    "a large red circle on the left of a white background",
    "a small blue star on the left of a white background",
)


def png(picture):
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def row(number, caption, winner, loser, **more):
    """A pair whose winner stands on side 0 when `number` is even."""
    first = number % 2 == 0
    sides = (winner, loser) if first else (loser, winner)
    best = 0 if first else 1
    return {
        "jpg_0": png(sides[0]),
        "jpg_1": png(sides[1]),
        "label_0": float(first),
        "label_1": float(not first),
        "caption": caption,
        "image_0_uid": f"{number}-0",
        "image_1_uid": f"{number}-1",
        "pair_kind": more.get("kind", "edit"),
        "edited": best if more.get("kind", "edit") == "edit" else None,
        "reversed": False,
        "margin": more.get("margin", 1.0),
        f"rewards_{best}": {"clip": more.get("gain", 1.0)},
        f"rewards_{1 - best}": {"clip": 0.0},
        f"flaws_{best}": more.get("flaws", (None, None))[0],
        f"flaws_{1 - best}": more.get("flaws", (None, None))[1],
        **more.get("columns", {}),
    }


def dataset(run, rows):
    """A run directory with nothing but a dataset, as `rpo build-pairs` names its files."""
    open_store(run, create=True).write_manifest({"preset": "shapes"})
    (run / "dataset/data").mkdir(parents=True)
    table = pa.Table.from_pylist(rows, schema=schema(["clip"]))
    pq.write_table(table, run / "dataset/data/train-0.parquet")
    (run / "dataset/README.md").write_text(f"# Pairs\n{MARK}build data/train-0.parquet -->\n")
    return open_line(run, create=False)


def flat(grey):
    return Image.new("RGB", (64, 64), (grey,) * 3)


def test_rewards_critic_and_moves_are_counted(tmp_path):
    """Reward: agrees, disagrees. Critic: fewer flaws on the winner once, as many once, unsaid once."""
    line = dataset(
        tmp_path / "run",
        [
            row(0, "one", flat(0), flat(51), gain=2.0, margin=0.6, flaws=([], ["colour: red"])),
            row(1, "two", flat(0), flat(102), gain=-1.0, margin=3.0, flaws=(["a: b"], ["a: c"])),
            row(2, "two", flat(9), flat(9), gain=0.0, kind="seeds"),
        ],
    )

    found = audit(line).results

    counts = {
        judge: {key: kinds["all"][key] for key in ("pairs", "agree", "tie", "disagree")}
        for judge, kinds in found["agreement"].items()
    }
    assert counts == {
        "clip": {"pairs": 3, "agree": 1, "tie": 1, "disagree": 1},
        "critic": {"pairs": 2, "agree": 1, "tie": 1, "disagree": 0},
    }
    clip = [(bin["from"], bin["pairs"], bin["wrong"]["value"]) for bin in found["noise_by_margin"]["clip"]]
    assert clip == [(0.5, 1, 0.0), (3.0, 1, 1.0)]
    assert found["moves"]["edit"]["pixel"]["0.5"] == pytest.approx(0.3)  # of 0.2 and 0.4
    assert found["moves"]["seeds"]["pixel"]["0.5"] == 0.0
    assert found["probe"]["edited"] is None


def judged(pair, choice, reviewer, number=0):
    about = ("pair_id", "prompt_id", "a_sha256", "b_sha256")
    fields = {name: getattr(pair, name) for name in about}
    key = content_key("verdict", pair.pair_id, reviewer, number)
    return Verdict(**fields, verdict_id=key, choice=choice, reviewer=reviewer, number=number, left="a")


def reviewed(run):
    """Three pairs whose edit has won, as the line knows them and as its dataset tells them."""
    pairs = [pair_of(number)[2] for number in range(3)]
    rows = []
    for pair in pairs:
        columns = {
            "ranking_id": ranking_id(pair.pair_id),
            "image_0_uid": pair.b_id,
            "image_1_uid": pair.a_id,
        }
        rows.append(row(0, pair.prompt, flat(0), flat(51), columns=columns))
    line = dataset(run, rows)
    line.store.commit("pairs", pairs, group="0badcafe")
    return line, pairs


def test_people_are_a_judge_by_the_verdict_of_most_that_stands(tmp_path):
    """Two of three prefer the first edit; the second's original is preferred; the third's is taken back."""
    line, pairs = reviewed(tmp_path / "run")
    rows = [judged(pairs[0], choice, who) for choice, who in (("b", "ann"), ("b", "bo"), ("a", "cy"))]
    rows += [
        judged(pairs[1], "a", "ann", 1),
        judged(pairs[2], "b", "ann", 2),
        judged(pairs[2], "undo", "ann", 3),
    ]
    assert "people" not in audit(line).results["agreement"]

    line.store.commit("verdicts", rows)
    found = audit(line)

    assert not found.skipped
    people, clip = (
        [results["all"][key] for key in ("pairs", "agree", "tie", "disagree")]
        for results in (found.results["agreement"]["people"], found.results["beside_people"]["clip"])
    )
    assert people == [2, 1, 0, 1]
    assert clip == [2, 1, 0, 1]  # the reward preferred both edits


def test_people_who_prefer_neither_are_a_tie(tmp_path):
    line, pairs = reviewed(tmp_path / "run")
    line.store.commit("verdicts", [judged(pairs[0], "tie", "ann"), judged(pairs[1], "reject", "ann", 1)])

    found = audit(line).results

    assert [found["agreement"]["people"]["all"][key] for key in ("pairs", "tie", "share")] == [2, 2, None]
    assert found["beside_people"] == {}


def test_the_oracle_judges_pictures_against_the_caption(tmp_path):
    """The winner shows its caption, the loser the other one; then the wrong way round."""
    red, blue = (render(parse_caption(caption), random.Random(0)) for caption in CAPTIONS)
    line = dataset(tmp_path / "run", [row(0, CAPTIONS[0], red, blue), row(1, CAPTIONS[1], red, blue)])

    found = audit(line, measure="shapes-oracle").results["agreement"]["shapes-oracle"]["all"]

    assert (found["agree"], found["disagree"], found["share"]["value"]) == (1, 1, 0.5)


def test_noise_that_only_edits_have_is_found_as_a_shortcut(tmp_path):
    """Every edit is noisy, every original flat: the probe says so with certainty."""
    rng = np.random.default_rng(0)
    noisy = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(24)]
    line = dataset(
        tmp_path / "run", [row(n, f"prompt {n}", picture, flat(3 * n)) for n, picture in enumerate(noisy)]
    )

    probes = audit(line).results["probe"]

    assert probes["edited"]["accuracy"]["value"] == 1.0
    assert probes["winner"]["accuracy"]["value"] == 1.0  # every edit won


def test_a_second_call_reads_what_the_first_has_written(tmp_path):
    line = dataset(tmp_path / "run", [row(0, "one", flat(0), flat(51))])

    first, second, other = audit(line), audit(line), audit(line, limit=1)

    assert (first.skipped, second.skipped, other.skipped) == (False, True, False)
    assert second.results == first.results


def test_a_probe_is_told_of_the_dataset_that_it_has_seen_and_no_other(tmp_path):
    line = dataset(tmp_path / "run", [row(0, "one", flat(0), flat(51))])
    assert probes(line, "default") is None

    found = audit(line).results["probe"]

    assert probes(line, "default") == found
    assert probes(line, "other") is None
    card = tmp_path / "run/dataset/README.md"
    card.write_text(card.read_text().replace("train-0", "train-1"))
    assert probes(line, "default") is None


def test_a_limit_bounds_the_pictures_and_not_the_labels(tmp_path):
    line = dataset(tmp_path / "run", [row(n, f"p{n}", flat(0), flat(51)) for n in range(7)])

    found = audit(line, limit=3).results

    assert (found["pairs"], found["looked_at"]) == (7, 3)


def test_a_broken_picture_is_passed_over(tmp_path):
    rows = [row(0, "one", flat(0), flat(51)), row(2, "two", flat(0), flat(51))]
    rows[1]["jpg_1"] = b"no picture"

    found = audit(dataset(tmp_path / "run", rows)).results

    assert (found["pairs"], found["looked_at"]) == (2, 1)


def test_no_dataset_is_said_with_the_command_that_makes_one(tmp_path):
    open_store(tmp_path / "run", create=True).write_manifest({"preset": "shapes"})
    with pytest.raises(UsageError, match="no dataset yet"):
        audit(open_line(tmp_path / "run", create=False))


def test_pairs_that_no_reward_has_scored_are_judged_by_what_there_is(tmp_path):
    """Imported pairs may have no rewards columns at all."""
    run = tmp_path / "run"
    line = dataset(run, [row(0, "one", flat(0), flat(51), kind="human", flaws=([], ["colour: red"]))])
    file = run / "dataset/data/train-0.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["rewards_0", "rewards_1"]), file)

    assert list(audit(line).results["agreement"]) == ["critic"]


JUDGE = """
def judge(picture, caption):
    from rpo_cli.shapes.measure import shapes_oracle
    return shapes_oracle(picture, caption)
"""


def test_a_measure_of_others_judges_anew_with_each_version_and_ours_keeps_its_key(site, tmp_path):
    """What a measure says is its code's; an audit by one version is none by another."""
    points = "[rpo.measures]\nmine = judges:judge\n"
    red, blue = (render(parse_caption(caption), random.Random(0)) for caption in CAPTIONS)
    line = dataset(tmp_path / "run", [row(0, CAPTIONS[0], red, blue)])
    ours = audit(line, measure="shapes-oracle")
    assert measure_key("shapes-oracle") == "shapes-oracle"
    assert measure_key(None) is None

    site("third", "1.0", points, judges=JUDGE)
    first, second = audit(line, measure="mine"), audit(line, measure="mine")
    site("third", "1.1", points, judges=JUDGE)
    newer = audit(line, measure="mine")

    assert (first.skipped, second.skipped, newer.skipped) == (False, True, False)
    assert audit(line, measure="mine").skipped
    assert ours.results["fingerprint"] != first.results["fingerprint"] != newer.results["fingerprint"]
