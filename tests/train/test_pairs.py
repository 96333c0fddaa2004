"""The dataset at the door: what is read, and what is refused with file and row."""

import hashlib

import pytest

from rpo_cli.errors import UsageError
from rpo_cli.train.data.pairs import TrainingPair, fingerprint, is_of_dataset, pictures, read_pairs


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def row(tiny):
    def make(**changed) -> dict:
        pair = {"jpg_0": tiny.picture(1), "jpg_1": tiny.picture(2)}
        return pair | {"label_0": 1.0, "label_1": 0.0, "caption": "c"} | changed

    return make


def test_the_winner_is_the_side_whose_label_is_one(tiny, row, tmp_path):
    tiny.write_split(tmp_path, "train", [row(), row(label_0=0.0, label_1=1.0, caption=None)])
    first, second = sha(tiny.picture(1)), sha(tiny.picture(2))
    assert read_pairs(tmp_path, "train") == [
        TrainingPair(first, second, "c"),
        TrainingPair(second, first, ""),
    ]


def test_integer_labels_count_too(tiny, row, tmp_path):
    tiny.write_split(tmp_path, "train", [row(label_0=0)])
    assert read_pairs(tmp_path, "train")[0].winner == sha(tiny.picture(2))


def test_a_missing_split_is_empty(tiny, row, tmp_path):
    tiny.write_split(tmp_path, "train", [row()])
    assert read_pairs(tmp_path, "validation") == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label_0": 0.5}, "row 1: label_0 is 0.5, a tie"),
        ({"label_0": None}, "row 1: label_0 is None"),
        ({"label_0": float("nan")}, "row 1: label_0 is nan"),
        ({"label_0": 2.0}, "row 1: label_0 is 2.0"),
        ({"jpg_1": None}, "row 1: jpg_1 holds no image bytes"),
        ({"jpg_0": b""}, "row 1: jpg_0 holds no image bytes"),
    ],
)
def test_a_pair_without_a_clear_winner_is_refused_by_row(tiny, row, tmp_path, changed, message):
    tiny.write_split(tmp_path, "train", [row(), row(**changed)])
    with pytest.raises(UsageError, match=message):
        read_pairs(tmp_path, "train")


@pytest.mark.parametrize("column", ["dispersion", "margin", "agreement"])
def test_a_column_is_read_only_when_it_is_asked_for(tiny, row, tmp_path, column):
    tiny.write_split(tmp_path, "train", [row(**{column: 0.25})])
    assert getattr(read_pairs(tmp_path, "train")[0], column) is None
    assert getattr(read_pairs(tmp_path, "train", [column])[0], column) == 0.25


@pytest.mark.parametrize("value", [None, float("nan")])
def test_an_empty_value_of_a_column_that_is_asked_for_is_refused_by_row(tiny, row, tmp_path, value):
    tiny.write_split(tmp_path, "train", [row(dispersion=0.5), row(dispersion=value)])
    with pytest.raises(UsageError, match="row 1: dispersion is") as caught:
        read_pairs(tmp_path, "train", ["dispersion"])
    assert "build-pairs" in caught.value.hint


@pytest.mark.parametrize("column", ["margin", "agreement"])
def test_labels_that_no_reward_has_compared_have_no_margin_to_train_on(tiny, row, tmp_path, column):
    tiny.write_split(tmp_path, "train", [row(**{column: 0.0}), row(**{column: 0.0})])
    assert len(read_pairs(tmp_path, "train")) == 2
    with pytest.raises(UsageError, match=f"{column} is 0 in every pair: no reward") as caught:
        read_pairs(tmp_path, "train", [column])
    assert "--reward NAME=MODEL" in caught.value.hint


@pytest.mark.parametrize("column", ["margin", "agreement"])
def test_one_pair_with_a_margin_is_enough_and_held_out_ones_may_have_none(tiny, row, tmp_path, column):
    tiny.write_split(tmp_path, "train", [row(**{column: 0.0}), row(**{column: 0.5})])
    tiny.write_split(tmp_path, "validation", [row(**{column: 0.0})])
    assert [getattr(pair, column) for pair in read_pairs(tmp_path, "train", [column])] == [0.0, 0.5]
    assert len(read_pairs(tmp_path, "validation", [column])) == 1


def test_equal_pictures_are_refused_by_row(tiny, row, tmp_path):
    tiny.write_split(tmp_path, "train", [row(), row(jpg_1=tiny.picture(1))])
    with pytest.raises(UsageError, match="row 1: jpg_0 and jpg_1 are the same picture"):
        read_pairs(tmp_path, "train")


def test_an_image_struct_instead_of_bytes_is_refused(tiny, row, tmp_path):
    image = {"bytes": tiny.picture(1), "path": None}
    tiny.write_split(tmp_path, "train", [row(jpg_0=image)])
    with pytest.raises(UsageError, match="jpg_0 holds no image bytes"):
        read_pairs(tmp_path, "train")


def test_a_missing_column_is_named(tiny, row, tmp_path):
    rows = [{key: value for key, value in row().items() if key != "caption"}]
    tiny.write_split(tmp_path, "train", rows)
    with pytest.raises(UsageError, match="no column caption"):
        read_pairs(tmp_path, "train")


def test_a_cut_off_parquet_file_is_a_usage_error(tiny, row, tmp_path):
    tiny.write_split(tmp_path, "train", [row()])
    path = next((tmp_path / "data").iterdir())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UsageError, match="not a readable Parquet file"):
        read_pairs(tmp_path, "train")


def test_pictures_gives_each_wanted_one_once_with_its_place(tiny, row, tmp_path):
    tiny.write_split(tmp_path, "train", [row(), row(), row(jpg_1=tiny.picture(3))])
    tiny.write_split(tmp_path, "validation", [row(jpg_0=tiny.picture(4))])
    wanted = {sha(tiny.picture(seed)) for seed in (2, 3, 4)}
    found = list(pictures(tmp_path, wanted))
    assert [(digest, data) for digest, data, _ in found] == [
        (sha(tiny.picture(seed)), tiny.picture(seed)) for seed in (2, 3, 4)
    ]
    assert found[1][2] == "train-00000.parquet row 2, jpg_1"


def test_rows_are_counted_across_reading_batches(tiny, row, tmp_path):
    rows = [row(caption=str(index)) for index in range(150)]
    rows[140]["label_0"] = 0.5
    tiny.write_split(tmp_path, "train", rows)
    with pytest.raises(UsageError, match=r"row 140: label_0 is 0\.5"):
        read_pairs(tmp_path, "train")


def test_the_fingerprint_changes_with_content_and_split_and_not_with_file_names(tiny, row, tmp_path):
    rows = tiny.bright_beats_dark(2, 0)
    seen = set()
    for name, split, content in [
        ("a", "train", rows),
        ("b", "train", tiny.bright_beats_dark(2, 50)),
    ]:
        tiny.write_split(tmp_path / name, split, content)
        seen.add(fingerprint(tmp_path / name))
    tiny.write_split(tmp_path / "a", "validation", rows)
    seen.add(fingerprint(tmp_path / "a"))
    assert len(seen) == 3
    before = fingerprint(tmp_path / "b")
    path = next((tmp_path / "b" / "data").iterdir())
    path.rename(path.with_name("train-renamed.parquet"))
    assert fingerprint(tmp_path / "b") == before


@pytest.mark.parametrize("split", [None, "validation"])
def test_no_training_split_is_a_usage_error_with_a_hint(tiny, row, tmp_path, split):
    if split:
        tiny.write_split(tmp_path, split, [row()])
    with pytest.raises(UsageError, match="no training pairs") as caught:
        fingerprint(tmp_path)
    assert "rpo build-pairs" in caught.value.hint


def test_what_reviewers_say_of_pairs_is_no_part_of_what_a_training_takes(tiny, row, tmp_path):
    """Nor is a training invalid that an earlier version has made on the same files."""
    for name, said in (("a", None), ("b", "a")):
        rows = [{**each, "human_label": said} for each in tiny.bright_beats_dark(2, 0)]
        tiny.write_split(tmp_path / name, "train", rows)
    files = sorted((tmp_path / "a" / "data").iterdir())
    digest = hashlib.sha256(f"train {hashlib.sha256(files[0].read_bytes()).hexdigest()}\n".encode())

    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    assert is_of_dataset(tmp_path / "a", fingerprint(tmp_path / "b"))
    assert is_of_dataset(tmp_path / "a", digest.hexdigest()[:32])
    assert not is_of_dataset(tmp_path / "b", digest.hexdigest()[:32])


def test_a_label_is_part_of_what_a_training_takes(tiny, row, tmp_path):
    for name, label in (("a", 1.0), ("b", 0.0)):
        tiny.write_split(tmp_path / name, "train", [row(label_0=label)])
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")
