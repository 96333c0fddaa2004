"""Sources in the formats of other people's data, written as their publishers lay them out."""

import io
import json
import struct
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


def png(seed, side=8, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


def crc32c(data):
    """Bit by bit, as RFC 3720 defines it."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def record(data):
    """One TFRecord."""

    def check(part):
        value = crc32c(part)
        return struct.pack("<I", ((value >> 15 | value << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + check(length) + data + check(data)


def varint(value):
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def message(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(**features):
    """A tf.train.Example of bytes, floats and integers."""

    def feature(value):
        if isinstance(value, bytes):
            return message(1, message(1, value))
        if isinstance(value, float):
            return message(2, message(1, struct.pack("<f", value)))
        return message(3, message(1, varint(value)))

    entries = [
        message(1, message(1, name.encode()) + message(2, feature(v))) for name, v in features.items()
    ]
    return message(1, b"".join(entries))


def label(name, words, *, heat=None, **scores):
    """A record of RichHF-18K."""
    values = {f"{score}_score": 0.5 for score in ("aesthetics", "artifact", "misalignment", "overall")}
    maps = {"artifact_map": heat} if heat else {}
    return example(
        filename=f"train/{name}.png".encode(),
        prompt_misalignment_label=words.encode(),
        **values | {f"{score}_score": value for score, value in scores.items()},
        **maps,
    )


def pick(row, label_0=1.0, **changes):
    """A row of Pick-a-Pic."""
    return {
        "caption": f"prompt {row // 2}",
        "jpg_0": png(2 * row, format="JPEG", quality=95),
        "jpg_1": png(2 * row + 1, format="JPEG", quality=95),
        "label_0": label_0,
        "label_1": None if label_0 is None else 1 - label_0,
        "has_label": label_0 is not None,
        "image_0_uid": f"uid-{row}-0",
        "image_1_uid": f"uid-{row}-1",
        "model_0": "sd15",
        "model_1": "sdxl",
        "ranking_id": 100 + row,
        **changes,
    }


class Writer:
    """Writes a source of each format below a folder and returns its path."""

    png, pick, label, example, record, crc32c = map(
        staticmethod, (png, pick, label, example, record, crc32c)
    )

    def __init__(self, root):
        self.root = root

    def file(self, name, data):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def parquet(self, name, rows, row_group_size=2):
        path = self.file(name, b"")
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=row_group_size)
        return path

    def tar(self, name, members):
        path = self.file(name, b"")
        with tarfile.open(path, "w") as tar:
            for member, data in members:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return path

    def tfrecord(self, name, examples):
        return self.file(name, b"".join(map(record, examples)))

    def lines(self, name, rows):
        return self.file(name, "".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def writer():
    """The class, for sources that several tests share."""
    return Writer


@pytest.fixture
def write(tmp_path):
    return Writer(tmp_path / "source")


class Judged:
    """pairs.jsonl beside its pictures: `choices` says who wins, "a" or "b", of each row."""

    def __init__(self, write, count=10, name="."):
        self.write, self.home, self.pictures = write, name, {}
        for n in range(count):
            self.put(f"{n}a.png", n)
            self.put(f"{n}b.png", 100 + n)
        self.say(["a"] * count)

    @property
    def root(self):
        return self.write.root / self.home

    def put(self, name, seed):
        self.pictures[name] = self.write.png(seed)
        return self.write.file(f"{self.home}/{name}", self.pictures[name])

    def say(self, choices, prompts=None):
        prompts = prompts or [f"prompt {n}" for n in range(len(choices))]
        self.rows = [
            {"prompt": prompts[n], "image_0": f"{n}a.png", "image_1": f"{n}b.png", "label_0": int(c == "a")}
            for n, c in enumerate(choices)
        ]
        return self.write.lines(f"{self.home}/pairs.jsonl", self.rows)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache, empty at first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def judge(write):
    """Makes sources of judged pairs: rows, folder."""
    return lambda count=10, name=".": Judged(write, count, name)


@pytest.fixture
def judged(judge):
    return judge()


@pytest.fixture
def settled(monkeypatch):
    """Files that were written just now count as if they had been written long ago."""
    monkeypatch.setattr("rpo_cli.line.imports.reading.SETTLED", 0)
