"""TFRecords and tf.train.Example without TensorFlow."""

import random

import pytest

from rpo_cli.errors import RpoError
from rpo_cli.exchange.importers.tfrecord import crc32c, example, records


@pytest.mark.parametrize(
    ("data", "check"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),  # the check value of the catalogue of parametrised CRC algorithms
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_published_checksums_come_out(data, check):
    assert crc32c(data) == check


def test_a_checksum_of_any_length_is_that_of_the_definition(write):
    rng = random.Random(0)
    for length in [*range(1, 70), 127, 128, 129, 1000, 4097]:
        data = rng.randbytes(length)
        assert crc32c(data) == write.crc32c(data), length


def test_records_come_out_whole_and_in_order(write):
    datas = [b"", b"a", b"b" * 1000]
    path = write.tfrecord("x.tfrecord", datas)
    assert list(records(path)) == datas


def test_a_flipped_bit_anywhere_is_found(write):
    path = write.tfrecord("x.tfrecord", [b"some data"])
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(RpoError, match="record 0"):
            list(records(path))


@pytest.mark.parametrize("cut", [1, 11, 13, 20])
def test_a_file_that_breaks_off_says_in_which_record(write, cut):
    path = write.tfrecord("x.tfrecord", [b"first", b"second"])
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(RpoError, match="record 1: breaks off"):
        list(records(path))


def test_a_git_lfs_pointer_is_told_as_one(write):
    path = write.file("x.tfrecord", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(RpoError) as caught:
        list(records(path))
    assert "git lfs pull" in caught.value.hint


def test_features_of_each_type_are_read(write):
    found = example(write.example(name=b"a.png", score=0.25, count=300))
    assert found == {"name": [b"a.png"], "score": [0.25], "count": [300]}


def test_bytes_that_are_no_example_are_an_error_of_the_record_not_a_crash():
    rng = random.Random(1)
    for _ in range(2000):
        data = rng.randbytes(rng.randrange(1, 40))
        try:
            example(data)
        except ValueError:
            continue
