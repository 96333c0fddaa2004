"""build-pairs over a real store: small noisy pictures, made-up scores, no model."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from rpo_cli.config import PairSettings
from rpo_cli.line.dataset import rows as dataset_sides
from rpo_cli.line.dataset.build import build_dataset
from rpo_cli.line.dataset.comparisons import prune_comparisons
from rpo_cli.line.dataset.contact_sheet import draw_contact_sheet
from rpo_cli.line.dataset.rows import PictureShelf, block_digits, tell
from rpo_cli.pictures import encode_png, sha256
from rpo_cli.protocols import Silent
from rpo_cli.records import Critique, Edit, Flaw, Image, ImageData, Prompt, Reject, RewardScore, content_key
from rpo_cli.store import open_store

MODELS = {"generator": "sd 1234", "critic": "vlm 5678", "editor": "ip2p 9abc", "reward clip": "clip def0"}
SETTINGS = PairSettings(strategy="all", val_fraction=0.3)


def png(rng):
    pixels = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return encode_png(Pillow.fromarray(pixels))


def stamped(kind, number, prompt_id, prompt):
    common = {"batch_size": 8, "settings": '{"model":"m"}', "environment": "{}"}
    return {f"{kind}_id": content_key(kind, number), "prompt_id": prompt_id, "prompt": prompt, **common}


def tables(prompts=10, per_prompt=2):
    """Rows of every table of a run; each image has a critique with one instruction and one edit."""
    rng = random.Random(0)
    rows = {name: [] for name in ("prompts", "images", "critiques", "edits", "rewards")}
    for number in range(prompts):
        prompt_id, prompt = content_key("prompt", number), f"a scene number {number}"
        rows["prompts"].append(Prompt(prompt_id=prompt_id, prompt=prompt, source="list.txt"))
        for index in range(per_prompt):
            n = number * per_prompt + index
            before, after = png(rng), png(rng)
            size = {"width": 8, "height": 8, "seed": n}
            image = Image(
                **stamped("image", n, prompt_id, prompt),
                **size,
                index=index,
                sha256=sha256(before),
                image=ImageData(bytes=before),
            )
            joined = {"image_id": image.image_id, "image_sha256": image.sha256}
            critique = Critique(
                **stamped("critique", n, prompt_id, prompt),
                **joined,
                text="the circle is blue",
                flaws=(Flaw(aspect="colour", detail="it is blue"),),
                instructions=("make it red",),
                reply="{}",
                attempt=0,
                seed=n,
            )
            edit = Edit(
                **stamped("edit", n, prompt_id, prompt),
                **size,
                **joined,
                critique_id=critique.critique_id,
                instruction="make it red",
                attempt=0,
                guidance=7.5,
                image_guidance=1.5,
                sha256=sha256(after),
                image=ImageData(bytes=after),
            )
            rows["images"].append(image)
            rows["critiques"].append(critique)
            rows["edits"].append(edit)
            rows["rewards"] += scores(rng, image, "image") + scores(rng, edit, "edit")
    return rows


def scores(rng, row, subject):
    better = rng.gauss(1.0 if subject == "edit" else 0.0, 1.0)
    return [
        RewardScore(
            score_id=content_key("score", row.key, reward),
            subject=subject,
            subject_id=row.key,
            subject_sha256=row.sha256,
            prompt_id=row.prompt_id,
            reward=reward,
            score=better + rng.gauss(0, 0.2),
            batch_size=8,
            settings="{}",
            environment="{}",
        )
        for reward in ("clip", "vqascore")
    ]


def fill(path, rows, *, parts=1, seed=None):
    """A run directory with these rows, each table in so many parts, in shuffled order when given a seed."""
    store = open_store(path, create=True)
    store.write_manifest({"preset": "shapes"})
    for table, found in rows.items():
        found = random.Random(seed).sample(found, len(found)) if seed is not None else found
        for part in range(parts):
            if found[part::parts]:
                store.commit(table, found[part::parts], group="0badcafe")
    return store


def live_of(rows):
    return {name: {row.key for row in rows[name]} for name in ("images", "critiques", "edits", "rewards")}


def build(store, rows, settings=SETTINGS, *, notes=("Trained on ground truth.",), observer=None):
    return build_dataset(
        store,
        settings,
        live=live_of(rows),
        models=MODELS,
        notes=notes,
        observer=observer or Silent(),
    )


def tree(path, *folders):
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for folder in folders
        for file in (Path(path) / folder).rglob("*")
        if file.is_file()
    }


def dataset_rows(path):
    files = sorted((Path(path) / "dataset" / "data").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_a_run_becomes_pairs_and_a_dataset(tmp_path):
    rows = tables()
    store = fill(tmp_path, rows)
    report = build(store, rows)
    pairs = store.columns("pairs", ["verdict", "reason", "split"]).to_pylist()
    assert len(pairs) == report.candidates == 20 + 10  # an edit per image, a seed pair per prompt
    assert report.accepted + sum(report.dropped.values()) == report.candidates
    assert report.train + report.validation == report.accepted == len(dataset_rows(tmp_path))
    assert report.reversed == sum(row["reversed"] for row in dataset_rows(tmp_path)) > 0
    edited = next(row for row in dataset_rows(tmp_path) if row["edited"] is not None)
    assert edited[f"critique_{1 - edited['edited']}"] == "the circle is blue"
    assert edited[f"flaws_{1 - edited['edited']}"] == ["colour: it is blue"]
    assert edited[f"model_{edited['edited']}"] == MODELS["editor"]
    card = (tmp_path / "dataset" / "README.md").read_text()
    assert "Trained on ground truth." in card
    assert "`list.txt`" in card


def test_the_partition_and_order_of_rows_change_no_byte(tmp_path):
    rows = tables()
    for name, options in {
        "one": {},
        "two": {"parts": 7, "seed": 1},
        "three": {"parts": 3, "seed": 2},
    }.items():
        build(fill(tmp_path / name, rows, **options), rows)
    one, two, three = (tree(tmp_path / name, "dataset", "pairs") for name in ("one", "two", "three"))
    assert one == two == three


def test_a_second_call_measures_and_writes_nothing(tmp_path):
    class Watch(Silent):
        def start(self, stage, total, present):
            pytest.fail("measured again")

    rows = tables()
    first = build(fill(tmp_path, rows), rows)
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    second = build(open_store(tmp_path), rows, observer=Watch())
    assert stamps == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    assert (first.fresh, second.fresh) == (True, False)
    assert first.__dict__ | {"fresh": False} == second.__dict__


@pytest.mark.parametrize("lost", ["dataset/README.md", "dataset/data/*.parquet"])
def test_a_lost_file_is_made_again_with_the_same_bytes(tmp_path, lost):
    rows = tables()
    build(fill(tmp_path, rows), rows)
    before = tree(tmp_path, "dataset", "pairs")
    next(iter(sorted(tmp_path.glob(lost)))).unlink()
    assert build(open_store(tmp_path), rows).fresh
    assert tree(tmp_path, "dataset", "pairs") == before


def test_other_settings_replace_pairs_and_dataset_whole(tmp_path):
    rows = tables()
    store = fill(tmp_path, rows)
    build(store, rows)
    before = tree(tmp_path, "dataset", "pairs")
    strict = build(store, rows, SETTINGS.model_copy(update={"min_margin": 1.5}))
    assert strict.dropped["inside_band"] > 0
    assert len(store.keys("pairs")) == strict.candidates
    assert len(store.counts("pairs")) == 1
    assert len(dataset_rows(tmp_path)) == strict.accepted
    build(store, rows)
    assert tree(tmp_path, "dataset", "pairs") == before


def test_a_score_that_is_another_builds_anew(tmp_path):
    """As many rows as before: only the key tells that one is another."""
    rows = tables()
    store = fill(tmp_path, rows)
    build(store, rows)
    other = rows["rewards"][0].model_copy(
        update={"score_id": content_key("by another model"), "score": 99.0}
    )
    store.commit("rewards", [other], group="0badcafe")
    rows["rewards"][0] = other

    assert build(store, rows).fresh
    assert not build(store, rows).fresh


@pytest.mark.parametrize(
    "said",
    [
        {"notes": ("Trained on photographs.",)},
        {"models": {**MODELS, "critic": "vlm 0000"}},
        {"license": "mit"},
        {"imports": [{"source": "other people", "format": "pickapic", "license": "mit"}]},
    ],
    ids=["notes", "models", "license", "imports"],
)
def test_what_only_the_card_says_is_told_anew_when_it_changes(tmp_path, said):
    rows = tables()
    store = fill(tmp_path, rows)
    usual = {"live": live_of(rows), "models": MODELS, "notes": (), "observer": Silent()}
    build_dataset(store, SETTINGS, **usual)

    assert build_dataset(store, SETTINGS, **{**usual, **said}).fresh
    assert not build_dataset(store, SETTINGS, **{**usual, **said}).fresh


def test_a_side_is_told_with_the_critics_words_before_those_of_people_and_the_lowest_key_first():
    rows = tables()
    critic = rows["critiques"][0]
    others = {"0": '{"import":"richhf"}', "~": "{}", "}": "{}"}  # the critic's own key stands between
    for key, settings in others.items():
        new = {"critique_id": key, "text": f"said under {key}", "settings": settings}
        rows["critiques"].append(critic.model_copy(update=new))

    about = (critic.prompt_id, critic.image_sha256)
    critiques = [row.model_dump() for row in rows["critiques"]]
    without = [row for row in critiques if row["critique_id"] in others]

    def words(found):
        return tell({"images": [], "edits": [], "critiques": found}, {}).critiques[about]["text"]

    assert words(critiques) == words(critiques[::-1]) == critic.text
    assert words(without) == "said under }"


def test_rows_of_older_settings_take_no_part(tmp_path):
    """Images, edits and scores that are in the store but no longer wanted change no byte."""
    rows = tables()
    few = {name: found[: len(found) // 2] for name, found in rows.items()}  # the first five prompts
    build(fill(tmp_path / "few", few), few)
    store = fill(tmp_path / "stale", rows)
    build(store, few)
    assert tree(tmp_path / "few", "dataset", "pairs") == tree(tmp_path / "stale", "dataset", "pairs")


def test_a_corrupt_picture_drops_its_pairs_and_no_other(tmp_path):
    rows = tables()
    broken = rows["edits"][0].model_copy(update={"image": ImageData(bytes=b"\x89PNG broken")})
    whole = build(fill(tmp_path / "whole", rows), rows)
    rows["edits"][0] = broken
    report = build(fill(tmp_path / "broken", rows), rows)
    assert report.dropped["corrupt_image"] == 1
    assert report.candidates == whole.candidates


def test_the_card_counts_current_rejects_only(tmp_path):
    rows = tables()
    live = rows["critiques"][-1].key
    for name in ("critiques", "edits"):
        rows[name].pop()
    said = {"stage": "critique", "input_id": "i", "reason": "bad_reply", "detail": "?", "settings": "{}"}
    rows["rejects"] = [Reject(key_of=live, **said), Reject(key_of="of older settings", **said)]
    store = fill(tmp_path, rows)
    wanted = live_of(rows)
    wanted["critiques"].add(live)
    build_dataset(store, SETTINGS, live=wanted, models=MODELS, notes=(), observer=Silent())
    assert "| critique | `bad_reply` | 1 |" in (tmp_path / "dataset" / "README.md").read_text()


def test_nothing_accepted_is_said_and_removes_the_older_data(tmp_path):
    rows = tables()
    store = fill(tmp_path, rows)
    build(store, rows)
    report = build(store, rows, SETTINGS.model_copy(update={"min_margin": 1000.0}))
    assert (report.accepted, report.train, report.dropped) == (0, 0, {"inside_band": 30})
    assert dataset_rows(tmp_path) == []


def test_an_empty_run_makes_an_empty_report(tmp_path):
    rows = {name: [] for name in tables(0)}
    report = build(fill(tmp_path, rows), rows)
    assert (report.candidates, report.accepted, report.dropped) == (0, 0, {})


def test_the_shelf_gives_back_what_was_put_in_from_memory_and_from_disk(monkeypatch):
    pictures = {f"{n}": bytes([n]) * (n + 1) for n in range(50)}
    for limit in (10**9, 100):
        monkeypatch.setattr("rpo_cli.line.dataset.rows.IN_MEMORY", limit)
        with PictureShelf() as shelf:
            shelf.add(pictures.items())
            shelf.add([("3", b"another picture under the same hash cannot be")])
            order = random.Random(0).sample(sorted(pictures), 50)
            assert {key: shelf[key] for key in order} == pictures


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import test_dataset as t
from rpo_cli.exchange import dataset
from rpo_cli.files import Files

calls, at = 0, {at}

def die_at(function):
    def wrapped(*args, **kwargs):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return wrapped

os.fsync = die_at(os.fsync)
os.replace = die_at(os.replace)
dataset.Path.unlink = die_at(dataset.Path.unlink)
dataset.Path.replace = die_at(dataset.Path.replace)
Files.delete = die_at(Files.delete)
rows = t.tables()
t.build(t.open_store({run!r}), rows, t.SETTINGS.model_copy(update={{"min_margin": 0.6}}))
"""


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_a_whole_build_and_the_next_call_ends_it(tmp_path):
    """Each fsync, rename and delete of a rebuild in turn is where the process dies, by SIGKILL."""
    rows = tables()
    settings = SETTINGS.model_copy(update={"min_margin": 0.6})
    undisturbed = fill(tmp_path / "undisturbed", rows)
    build(undisturbed, rows)
    old = tree(tmp_path / "undisturbed", "dataset")
    build(undisturbed, rows, settings)
    expected = tree(tmp_path / "undisturbed", "dataset", "pairs")
    for at in range(1, 100):
        run = tmp_path / f"run-{at}"
        build(fill(run, rows), rows)
        script = KILLED.format(tests=str(Path(__file__).parent), at=at, run=str(run))
        done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"})
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        now = tree(run, "dataset")
        card = now["dataset/README.md"]
        whole = old if card == old["dataset/README.md"] else expected
        named = [name for name in whole if name.startswith("dataset/")]
        assert {name: now.get(name) for name in named} == {name: whole[name] for name in named}
        build(open_store(run), rows, settings)
        found = tree(run, "dataset", "pairs")
        assert {name: data for name, data in found.items() if ".rpo-tmp-" not in name} == expected
    assert at > 10, "the steps were counted"
    assert done.returncode == 0


class Measured(Silent):
    """What a build says of its measuring."""

    def __init__(self):
        self.there, self.made, self.unreadable = [], 0, 0

    def start(self, stage, total, present):
        self.there.append((total, present))

    def advance(self, rows, rejects):
        self.made += rows
        self.unreadable += rejects


def test_pictures_are_compared_once_whatever_is_asked_of_the_pairs(tmp_path):
    """Other thresholds, strategies and rewards need no second look; a lost comparison is made again."""
    rows = tables()
    store = fill(tmp_path, rows)
    first, stricter, others, lost = (Measured() for _ in range(4))
    build(store, rows, SETTINGS.model_copy(update={"strategy": "edits"}), observer=first)
    build(
        store, rows, SETTINGS.model_copy(update={"strategy": "edits", "min_margin": 1}), observer=stricter
    )
    build(store, rows, observer=others)

    assert (first.there, first.made) == ([(20, 0)], 20)
    assert (stricter.there, stricter.made) == ([(20, 20)], 0)
    assert (others.there, others.made) == ([(30, 20)], 10), "of pairs of seeds nothing was known"
    before = tree(tmp_path, "dataset", "pairs")
    for file in (tmp_path / "comparisons").iterdir():
        file.unlink()
    build(store, rows, SETTINGS.model_copy(update={"min_margin": 1}))
    build(store, rows, observer=lost)
    assert lost.made == 0
    assert tree(tmp_path, "dataset", "pairs") == before


def test_a_comparison_hangs_on_both_pictures_and_their_order(tmp_path):
    """Side b is brought to the size of side a."""
    rows = tables()
    build(fill(tmp_path, rows), rows)
    found = (
        open_store(tmp_path).columns("comparisons", ["comparison_id", "a_sha256", "b_sha256"]).to_pylist()
    )

    assert len({row["comparison_id"] for row in found}) == len(found) == 30
    for row in found:
        key = content_key("comparison", 1, row["a_sha256"], row["b_sha256"])
        assert row["comparison_id"] == key


def test_a_picture_that_cannot_be_read_is_looked_at_by_every_build(tmp_path):
    rows = tables()
    broken = rows["edits"][0]
    rows["edits"][0] = broken.model_copy(update={"image": ImageData(bytes=b"\x89PNG")})
    store, first, second = fill(tmp_path, rows), Measured(), Measured()

    report = build(store, rows, observer=first)
    build(store, rows, SETTINGS.model_copy(update={"min_margin": 0.1}), observer=second)

    assert report.dropped["corrupt_image"] == 1
    assert (first.made, first.unreadable) == (29, 1)
    assert (second.there, second.made, second.unreadable) == ([(30, 29)], 0, 1)


def test_what_is_known_of_pictures_that_are_gone_is_pruned(tmp_path):
    rows = tables()
    store = fill(tmp_path, rows)
    build(store, rows)
    gone = rows["images"][0].sha256
    hung = sum(
        gone in (row["a_sha256"], row["b_sha256"])
        for row in store.columns("comparisons", ["a_sha256", "b_sha256"]).to_pylist()
    )
    (part,) = store.parts("images")
    store.replace("images", part, rows["images"][1:])

    assert prune_comparisons(store) == hung == 2, "of the image: its edit and the other seed"
    assert prune_comparisons(store) == 0
    assert len(store.keys("comparisons")) == 30 - hung


def test_only_comparisons_of_other_pictures_are_measured(tmp_path):
    """Half of what is known stays: it is found among the others by its key, whatever lies beside it."""
    rows = tables()
    store, whole, half = fill(tmp_path, rows), Measured(), Measured()
    build(store, rows, observer=whole)
    before = tree(tmp_path, "dataset", "pairs")
    (part,) = store.parts("comparisons")
    store.replace("comparisons", part, list(store.part_rows("comparisons", part))[::2])
    build(store, rows, SETTINGS.model_copy(update={"min_margin": 0.6}), observer=half)
    build(store, rows)

    assert (half.there, half.made) == ([(30, 15)], 15)
    assert tree(tmp_path, "dataset", "pairs") == before


def test_the_sheet_of_many_pairs_is_chosen_from_the_first_of_each_reason(tmp_path, monkeypatch):
    """Eight are shown, of four outcomes in turn; so the first eight of each reason are enough here."""
    rows = tables(prompts=60)
    sheets = []
    for name, most in (("all", 1_000), ("few", 8)):
        monkeypatch.setattr("rpo_cli.line.dataset.contact_sheet.LOOKED_AT", most)
        store = fill(tmp_path / name / "run", rows, parts=3, seed=most)
        build(store, rows)
        sheets.append(draw_contact_sheet(SimpleNamespace(store=store)).read_bytes())
    assert sheets[0] == sheets[1]


def test_pairs_fall_into_blocks_whose_pictures_fit_in_memory():
    """Two pictures a pair, two bytes a pixel, 256 MB; by one more letter a block is a sixteenth."""
    megapixel = 1_000_000.0
    assert [block_digits(pairs, megapixel) for pairs in (0, 1, 64, 65, 1024, 1025)] == [0, 0, 0, 1, 1, 2]
    assert block_digits(15_000, 64 * 64) == 0
    assert block_digits(10**7, 1024 * 1024) == 5


def test_a_dataset_of_many_blocks_has_the_rows_of_one_by_prompt(tmp_path, monkeypatch):
    rows = tables(prompts=40)
    build(fill(tmp_path / "one", rows), rows)
    monkeypatch.setattr(dataset_sides, "BYTES_PER_BLOCK", 2 * 120 * 64 * 2 // 16)
    build(fill(tmp_path / "many", rows, parts=5, seed=3), rows)
    build(fill(tmp_path / "again", rows, parts=2, seed=4), rows)
    one, many = (dataset_rows(tmp_path / name) for name in ("one", "many"))

    def key(row):
        said = json.loads(row["provenance"])
        return said["prompt_id"][:1], said["pair_id"]

    assert one != many
    for split in ("train", "validation"):
        files = sorted((tmp_path / "many" / "dataset" / "data").glob(f"{split}-*.parquet"))
        keys = [key(row) for file in files for row in pq.read_table(file).to_pylist()]
        assert keys == sorted(keys)
    assert sorted(one, key=key) == sorted(many, key=key)
    assert tree(tmp_path / "many", "dataset", "pairs") == tree(tmp_path / "again", "dataset", "pairs")


def test_a_build_copies_no_picture_to_another_place(tmp_path, monkeypatch):
    rows = tables()
    store = fill(tmp_path, rows)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no such folder"))

    assert build(store, rows).accepted > 0
