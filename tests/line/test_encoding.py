"""Pictures in the dataset: which are encoded, which are taken as they lie or from the build before."""

import io
import json
import random
from importlib.metadata import version

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from rpo_cli.config import PairSettings
from rpo_cli.errors import CorruptImage
from rpo_cli.line.dataset import rows as dataset_rows
from rpo_cli.line.dataset.build import build_dataset
from rpo_cli.pictures import decode, encode_png, sha256
from rpo_cli.protocols import Silent
from rpo_cli.records import Edit, Image, ImageData, Preference, RewardScore, canonical_json, content_key
from rpo_cli.store import open_store

LABELS = PairSettings(strategy="imported", val_fraction=0.3)
STRICTER = LABELS.model_copy(update={"min_hash_distance": 32})
HERE = canonical_json({"pillow": version("pillow"), "python": "3"})
ELSEWHERE = canonical_json({"pillow": "1.1.7", "python": "3"})


def noise(seed, side=8):
    return Pillow.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def encoded(seed, side=8, **options):
    buffer = io.BytesIO()
    noise(seed, side).save(buffer, **{"format": "JPEG", "quality": 95, **options})
    return buffer.getvalue()


def image(prompt, index, data, environment="{}", key=None):
    return Image(
        image_id=key or content_key("image", prompt, sha256(data)),
        prompt_id=content_key("prompt", prompt),
        prompt=prompt,
        index=index,
        seed=0,
        sha256=sha256(data),
        width=8,
        height=8,
        image=ImageData(bytes=data),
        batch_size=1,
        settings="{}",
        environment=environment,
        kind="import" if environment == "{}" else "generated",
    )


def judged(a, b):
    return Preference(
        preference_id=content_key("preference", a.key, b.key),
        prompt_id=a.prompt_id,
        prompt=a.prompt,
        a_id=a.key,
        b_id=b.key,
        a_sha256=a.sha256,
        b_sha256=b.sha256,
        choice="a",
        judged_by="human",
        source_id="s",
        row=0,
        settings="{}",
    )


class Run:
    """A run of judged pictures: the tables, and what is built of them."""

    def __init__(self, folder, images, pairs):
        self.folder, self.images = folder, images
        self.judgements = [judged(images[a], images[b]) for a, b in pairs]
        self.store = open_store(folder, create=True)
        self.store.write_manifest({"preset": "none"})
        self.store.commit("images", images, group="0badcafe")
        self.store.commit("preferences", self.judgements, group="0badcafe")

    def build(self, settings=LABELS):
        live = {"images": self.images, "critiques": (), "edits": (), "preferences": self.judgements}
        live |= {"rewards": ()}
        keys = {table: {row.key for row in rows} for table, rows in live.items()}
        return build_dataset(
            open_store(self.folder), settings, live=keys, models={}, notes=(), observer=Silent()
        )

    def put(self, images):
        """Other pictures in the place of those that lie there."""
        for part in self.store.parts("images"):
            self.store.files.delete(part.name)
        self.store.commit("images", images, group="0badcafe")

    @property
    def data(self):
        return sorted((self.folder / "dataset" / "data").glob("*.parquet"))

    @property
    def rows(self):
        return [row for file in self.data for row in pq.read_table(file).to_pylist()]

    @property
    def pictures(self):
        return {row[f"image_{n}_uid"]: row[f"jpg_{n}"] for row in self.rows for n in (0, 1)}

    @property
    def files(self):
        return {
            file.name: file.read_bytes() for file in [*self.data, self.folder / "dataset" / "README.md"]
        }


def imported(folder, prompts=12, each=2):
    """Pictures of others, JPEG and PNG, each judged beside the next of its prompt."""
    formats = ({}, {"format": "PNG", "compress_level": 1})
    images = [
        image(f"a scene number {n // each}", n % each, encoded(n, **formats[n % 2]))
        for n in range(prompts * each)
    ]
    pairs = [(n, n + 1) for n in range(len(images) - 1) if n % each < each - 1]
    return Run(folder, images, pairs)


def broken(images):
    """The same rows, none of whose pictures can be read: who decodes one is told."""
    return [row.model_copy(update={"image": ImageData(bytes=b"\xff\xd8 gone")}) for row in images]


@pytest.fixture
def few_at_a_time(monkeypatch):
    """Blocks of a few pairs, of which two are at work."""
    monkeypatch.setattr(dataset_rows, "BYTES_PER_BLOCK", 2_000)
    monkeypatch.setattr(dataset_rows, "AHEAD", 2)


CHANGES = {
    "a gate": {"min_hash_distance": 32},
    "another split": {"val_fraction": 0.6},
    "no split": {"val_fraction": 0.0},
    "a margin, which labels do not ask": {"min_margin": 2.0},
    "room for one pair of a prompt": {"max_pairs_per_prompt": 1},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("each", [2, 3])
def test_a_changed_gate_or_split_reads_and_encodes_no_picture_again(tmp_path, change, each):
    """Nothing of the stored pictures is left to be decoded, and the dataset is that of a first build."""
    run, settings = imported(tmp_path / "run", each=each), LABELS.model_copy(update=change)
    run.build()
    run.put(broken(run.images))
    run.build(settings)

    first = imported(tmp_path / "first", each=each)
    first.build(settings)

    assert run.files == first.files
    assert len(first.rows) > 5


def test_small_blocks_and_few_ahead_give_the_same_rows(tmp_path, few_at_a_time):
    run = imported(tmp_path / "run", each=4)
    run.build()
    made = {row["ranking_id"]: row for row in run.rows}
    run.put(broken(run.images))
    run.build(STRICTER)
    again = {row["ranking_id"]: row for row in run.rows}

    by_id = {row.key: row for row in run.images}
    assert 10 < len(again) < len(made) == 36
    for found in (made, again):
        for row in found.values():
            for n in (0, 1):
                stored = by_id[row[f"image_{n}_uid"]].image.bytes
                assert row[f"jpg_{n}"] == encode_png(decode(stored))


def test_a_looser_gate_encodes_only_pictures_that_were_in_no_pair(tmp_path):
    """A picture of a new pair is found in another pair of the build before."""
    run = imported(tmp_path / "run", each=3)
    run.build(STRICTER)
    there = run.pictures.keys()
    run.put([row if row.key not in there else broken([row])[0] for row in run.images])
    run.build(LABELS)

    first = imported(tmp_path / "first", each=3)
    first.build(LABELS)

    assert run.files == first.files
    assert 0 < len(there) < len(run.pictures)


def test_both_sides_are_the_same_kind_of_file_whatever_came_in(tmp_path):
    """A JPEG beside a PNG would be a shortcut to learn."""
    run = imported(tmp_path)
    run.build()
    for data in run.pictures.values():
        with Pillow.open(io.BytesIO(data)) as exported:
            assert (exported.format, exported.info) == ("PNG", {})
            assert encode_png(exported) == data


@pytest.mark.parametrize("record", [{}, {"encoder": "Pillow 1.1.7"}, {"build": "0" * 64}])
def test_a_build_of_another_encoder_or_of_nobody_knows_which_is_not_taken(tmp_path, record):
    run = imported(tmp_path)
    run.build()
    manifest = run.store.read_manifest()
    changed = {**manifest["encoded"], **record} if record else {}
    run.store.write_manifest({**manifest, "encoded": changed})
    run.put(broken(run.images))

    with pytest.raises(CorruptImage):
        run.build(STRICTER)


def rewritten(path, change):
    """A data file with other pictures in its first row."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0]["jpg_0"] = change(rows[0]["jpg_0"])
    pq.write_table(table.from_pylist(rows, schema=table.schema), path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"",
        lambda data: encoded(1),
    ],
)
def test_a_picture_that_is_broken_in_the_build_before_is_encoded_anew(tmp_path, damage):
    run = imported(tmp_path / "run")
    run.build()
    rewritten(run.data[0], damage)
    run.build(STRICTER)

    first = imported(tmp_path / "first")
    first.build(STRICTER)

    assert run.files == first.files


@pytest.mark.parametrize("column", ["jpg_0", "jpg_1", "image_1_uid", "provenance"])
@pytest.mark.parametrize("lost", [True, False], ids=["lost", "empty"])
def test_a_data_file_that_lacks_what_is_looked_for_is_no_source(tmp_path, column, lost):
    run = imported(tmp_path / "run")
    run.build()
    table = pq.read_table(run.data[0])
    place = table.schema.get_field_index(column)
    kept = table.drop_columns([column])
    empty = pa.nulls(len(table), table.schema.field(column).type)
    pq.write_table(kept if lost else kept.add_column(place, column, empty), run.data[0])
    run.build(STRICTER)

    first = imported(tmp_path / "first")
    first.build(STRICTER)

    assert run.files == first.files


@pytest.mark.parametrize("left", [0, 4, 500])
def test_a_data_file_that_is_cut_off_is_no_source(tmp_path, left):
    run = imported(tmp_path / "run")
    run.build()
    run.data[0].write_bytes(run.data[0].read_bytes()[:left])
    run.build(STRICTER)

    first = imported(tmp_path / "first")
    first.build(STRICTER)

    assert run.files == first.files


def test_a_picture_that_was_made_again_under_its_key_is_not_taken_from_the_build_before(tmp_path):
    """The last bits of a row hang on machines: its key is the same, its picture is not."""
    pictures = [image("a scene", n, encoded(n), key=content_key("image", n)) for n in range(3)]
    run = Run(tmp_path / "run", pictures, [(0, 1), (1, 2)])
    run.build()
    encoder = run.store.read_manifest()["encoded"]
    again = image("a scene", 1, encoded(99), key=content_key("image", 1))
    for part in [*run.store.parts("images"), *run.store.parts("preferences")]:
        run.store.files.delete(part.name)
    now = Run(tmp_path / "run", [pictures[0], again, pictures[2]], [(0, 1), (1, 2)])
    now.store.write_manifest(run.store.read_manifest() | {"encoded": encoder})
    now.build(LABELS.model_copy(update={"val_fraction": 0.9}))

    assert now.pictures[again.key] == encode_png(decode(again.image.bytes))


def drawn(seed, environment, level=9):
    """A picture of the line's own, compressed otherwise than an encoder here would: so its bytes tell."""
    return image("a scene", seed, encode_png(noise(seed), level), environment)


def test_what_the_line_itself_has_drawn_lies_in_the_dataset_byte_for_byte(tmp_path):
    images = [drawn(0, HERE), drawn(1, HERE), drawn(2, ELSEWHERE), image("a scene", 3, encoded(3))]
    run = Run(tmp_path, images, [(0, 1), (0, 2), (2, 3)])
    run.build()

    assert [run.pictures[row.key] == row.image.bytes for row in images] == [True, True, False, False]
    for row in images[2:]:
        assert run.pictures[row.key] == encode_png(decode(row.image.bytes))


def test_a_drawn_picture_that_has_been_changed_since_is_not_taken_as_it_lies(tmp_path):
    whole = encode_png(noise(0))
    flipped = whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]
    run = Run(tmp_path, [image("a scene", 0, whole, HERE), drawn(1, HERE)], [(0, 1)])
    run.build()
    run.put([row.model_copy(update={"image": ImageData(bytes=flipped)}) for row in run.images[:1]])
    run.store.commit("images", run.images[1:], group="0badcafe")

    with pytest.raises(CorruptImage):
        run.build(LABELS.model_copy(update={"val_fraction": 0.9}))


def test_only_a_dataset_with_pictures_of_others_is_said_to_be_of_an_encoder(tmp_path):
    own = Run(tmp_path / "own", [drawn(0, HERE), drawn(1, HERE)], [(0, 1)])
    own.build()
    mixed = imported(tmp_path / "mixed")
    mixed.build()

    assert "encoded" not in own.store.read_manifest()
    said = mixed.store.read_manifest()["encoded"]
    assert said["build"] in (tmp_path / "mixed" / "dataset" / "README.md").read_text()
    assert version("pillow") in said["encoder"]


def test_edits_of_the_line_are_taken_as_they_lie_beside_pictures_of_others(tmp_path):
    """An edited import: one side is encoded, the other is not."""
    source = image("a scene", 0, encoded(0))
    data = encode_png(noise(1), 9)
    edit = Edit(
        edit_id=content_key("edit"),
        image_id=source.key,
        image_sha256=source.sha256,
        critique_id="",
        prompt_id=source.prompt_id,
        prompt=source.prompt,
        instruction="make it red",
        attempt=0,
        guidance=1.0,
        image_guidance=1.0,
        seed=0,
        sha256=sha256(data),
        width=8,
        height=8,
        image=ImageData(bytes=data),
        batch_size=1,
        settings="{}",
        environment=HERE,
        purpose="counter",
    )
    run = Run(tmp_path, [source], [])
    scores = [score("image", source, 1.0), score("edit", edit, 0.0)]
    for table, rows in {"edits": [edit], "rewards": scores}.items():
        run.store.commit(table, rows)
    live = {"images": {source.key}, "critiques": set(), "edits": {edit.key}}
    live["rewards"] = {row.key for row in scores}
    settings = PairSettings(strategy="edits", max_change=1.0)
    build_dataset(run.store, settings, live=live, models={}, notes=(), observer=Silent())

    assert run.pictures == {source.key: encode_png(decode(source.image.bytes)), edit.key: data}


def score(subject, row, value):
    return RewardScore(
        score_id=content_key("score", row.key),
        subject=subject,
        subject_id=row.key,
        subject_sha256=row.sha256,
        prompt_id=row.prompt_id,
        reward="clip",
        score=value,
        batch_size=1,
        settings="{}",
        environment="{}",
    )


def test_provenance_names_the_stored_bytes_of_both_sides(tmp_path):
    """By them the build before is searched."""
    run = imported(tmp_path)
    run.build()
    stored = {row.key: row.sha256 for row in run.images}
    for row in run.rows:
        told = json.loads(row["provenance"])
        assert {told[side]["id"]: told[side]["sha256"] for side in "ab"} == {
            row[f"image_{n}_uid"]: stored[row[f"image_{n}_uid"]] for n in (0, 1)
        }


def test_any_order_of_rows_in_the_tables_gives_the_same_files(tmp_path):
    one, other = imported(tmp_path / "one", each=3), imported(tmp_path / "other", each=3)
    other.put(random.Random(0).sample(other.images, len(other.images)))
    one.build()
    other.build()
    assert one.files == other.files
