"""Mutated files: a reader ends, with rows that are all counted or with an error of ours."""

import io
import json
import random
import signal
import tarfile
import zipfile
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rpo_cli.config import PromptSettings
from rpo_cli.errors import RpoError
from rpo_cli.exchange.importers.layouts import read_map
from rpo_cli.exchange.incoming import Bad, Entry, Options
from rpo_cli.exchange.prompts import read_prompts
from rpo_cli.exchange.unpack import unpacked
from rpo_cli.line.imports.opening import _found as detect
from rpo_cli.line.imports.rows import RowMaker

SECONDS = 20  # one input that takes longer hangs
PROMPTS, IMPORTS = 7_000, 7_000  # replies have as many in tests/stages
pytestmark = pytest.mark.slow
SPICE = [
    b'"',
    b",",
    b";",
    b"\t",
    b"\n",
    b"\r",
    b"\r\n",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"{",
    b"}",
]
SPICE += [
    b"[",
    b"]",
    b"\\ud800",
    b"NaN",
    b"null",
    b"\xe2\x80\xa8",
    b"..",
    b"/",
    b"\x1a",
    b"9" * 30,
    b"-",
    b":",
]


def mutated(data, rng):
    """Up to four bytes, pieces or tails of `data` changed."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1:
            data[at:at] = rng.choice(SPICE)
        elif kind == 2:
            del data[at : at + rng.randint(1, 40)]
        elif kind == 3:
            data[at:at] = data[: rng.randint(0, 60)]
        elif kind == 4 and rng.random() < 0.3:
            del data[at:]
        else:
            end = at + rng.randint(1, 8)
            data[at:end] = bytes(rng.randrange(256) for _ in range(end - at))
    return bytes(data)


@contextmanager
def bounded(what):
    """Fail where a block takes longer than SECONDS."""

    def stop(*_):
        raise AssertionError(f"{what!r:.200} hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def parquet(**columns):
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def test_the_prompt_reader_counts_every_row_of_whatever_it_is_given(tmp_path):
    rows = [{"prompt": f'a "red" circle, {n}; \u2028 on\u200b white', "n": n} for n in range(4)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    seeds = {
        "a.txt": b"a red circle\r\na blue square\n\n# c\n",
        "a.csv": b'prompt,n\r\n"a, ""b""",1\r\n"c\nd",2\r\ne,3\r\n',
        "b.csv": 'prompt;n\ncafé;1\n"x;y";2\n'.encode("utf-8-sig"),
        "a.tsv": b'Prompt\tCategory\n"hello" in ink\tx\na "b\ty\n',
        "a.jsonl": lines.encode(),
        "a.json": json.dumps(rows).encode(),
        "b.json": json.dumps([row["prompt"] for row in rows]).encode(),
        "a.parquet": parquet(prompt=[row["prompt"] for row in rows], n=[1, 2, 3, 4]),
    }
    rng, read, refused, told = random.Random(14), 0, 0, ("", "")
    for number in range(PROMPTS):
        name = rng.choice(sorted(seeds))
        data = mutated(seeds[name], rng)
        path = tmp_path / f"{number % 50}-{name}"
        path.write_bytes(data)
        with bounded(data):
            try:
                found = read_prompts(
                    PromptSettings(file=str(path), column="prompt" if number % 3 else None)
                )
            except RpoError as error:
                refused += 1
                told = (error.message, error.hint)
                continue
        read += 1
        assert found.rows == len(found.prompts) + len(found.rejected) + found.left_out.total() + sum(
            found.kept_out.values()
        ), data
        assert all(prompt.prompt.encode() and prompt.prompt.strip() for prompt in found.prompts), data
    assert all(told)
    assert read > PROMPTS / 10 < refused  # both ways are met often


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files, mode):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def arrow(**columns):
    out, table = io.BytesIO(), pa.table(columns)
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def test_importers_end_with_every_row_taken_or_rejected_whatever_they_are_given(tmp_path, write):
    one, two = write.png(0), write.png(1)
    rows = [{"file_name": "0.png", "prompt": "a"}, {"file_name": "1.png", "prompt": "b", "x": 1}]
    pairs = [{"prompt": "a", "chosen": "0.png", "rejected": "1.png", "winner": n % 2} for n in range(3)]
    picks = parquet(caption=["a", "b"], jpg_0=[one, two], jpg_1=[two, one], label_0=[1.0, 0.3])
    state = json.dumps({"_data_files": [{"filename": "data.arrow"}]}).encode()
    samples = {"0.png": one, "0.txt": b"a", "1.png": two, "1.txt": b"b", "x.md": b"?"}
    hpd = [{"prompt": "a", "file_path": ["0.png", "1.png"], "human_preference": [1, 0]}]
    # the files of a source, the one of them that is mutated first
    sources = [
        {"metadata.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()},
        {"metadata.csv": b'file_name,prompt\n0.png,"a, b"\n1.png,c\n'},
        {"metadata.json": json.dumps(rows).encode()},
        {"metadata.parquet": parquet(file_name=["0.png", "1.png"], prompt=["a", "b"])},
        {"pairs.jsonl": "".join(json.dumps(row) + "\n" for row in pairs).encode()},
        {"train-0.parquet": picks},
        {"train-0.parquet": parquet(image=[{"bytes": one, "path": "0.png"}] * 3, prompt=["a", "b", "c"])},
        {"train.json": json.dumps(hpd).encode()},
        {"0.txt": b"a cat\n", "1.txt": "ein Café".encode()},
        {"win/0.txt": b"a", "win/0.png": one, "lose/0.png": two},
        {"0.png": one, "0.txt": b"a"},
        {
            "data.arrow": arrow(image=[one, two], prompt=["a", "b"]),
            "state.json": state,
            "dataset_info.json": b"{}",
        },
        {"state.json": state, "data.arrow": arrow(image=[one], prompt=["a"]), "dataset_info.json": b"{}"},
        {"a.tar": tarred(samples, "w")},
        {"a.tar.gz": tarred(samples, "w:gz")},
        {"a.zip": zipped(samples)},
        {"train-0.tfrecord": write.record(write.label("0", "1 0")), "0.txt": b"a b"},
    ]
    maker = RowMaker("group", "source", "{}", "source", {})
    rng, taken, refused = random.Random(15), 0, 0
    for number in range(IMPORTS):
        files = dict(rng.choice(sources))
        name = next(iter(files))
        files[name] = mutated(files[name], rng)
        root = tmp_path / f"{number}"
        beside = {} if name.startswith(("a.", "win", "train-0.parquet")) else {"0.png": one, "1.png": two}
        for place, data in ({**beside, **files}).items():
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_bytes(data)
        archive = name in ("a.zip", "a.tar.gz")
        images = root if name.endswith(".tfrecord") else None
        columns = read_map(["caption=prompt,chosen=chosen,rejected=rejected,winner=winner"])
        options = Options(images=images, columns=columns if name == "pairs.jsonl" and number % 2 else {})
        with bounded((name, files[name])):
            try:
                kinds = set()
                for found in walked(root / name if archive or name == "a.tar" else root, options, tmp_path):
                    assert isinstance(found, Entry | Bad)
                    assert all(row.key for row in maker.rows(found))
                    kinds.add(type(found))
                taken += Entry in kinds
            except RpoError:
                refused += 1
    assert taken > IMPORTS / 10 < refused


def walked(place, options, beside):
    """What a source gives; its rows are numbered without a gap, as many as it says."""
    if place.suffix == ".zip":
        with unpacked(place, beside) as (folder, _):
            yield from walked(folder, options, beside)
        return
    _, source = detect(place, None, options)
    rows = []
    for found in source.read(0):
        rows.append(found.row)
        yield found
    assert rows == list(range(len(rows)))
    assert source.rows in (None, len(rows))
    assert all(isinstance(text, str) for text in [*source.left(), *source.unused()])
