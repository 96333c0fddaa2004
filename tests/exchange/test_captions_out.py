"""Hostile captions through every exporter and back, by the readers of each format and by our importers."""

import io
import json
import tarfile
from collections import Counter

import pyarrow.json as paj
import pytest
from datasets import disable_progress_bars, load_dataset
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rpo_cli import open_line, registry
from rpo_cli.exchange.card import Facts, render
from rpo_cli.exchange.dataset import PairNumbers, Side, commit, schema, to_row, write_splits
from rpo_cli.exchange.outgoing import Built, ExportJob, rich_columns
from rpo_cli.exchange.prompts import MAX_CHARACTERS, trimmed, unfit
from rpo_cli.exchange.raw_rows import json_line
from rpo_cli.line.evaluation.prompts import Prompts, prompt_lines
from rpo_cli.line.imports.run import import_source
from rpo_cli.pictures import sha256
from rpo_cli.records import Pair, content_key
from rpo_cli.text import normalised
from rpo_cli.train.data.singles import read_singles

SPLITS = ("train", "validation")
# whole captions that a reader may take for something else
WHOLE = [
    *("1", "-1", "0.50", "1e5", "0x10", "+5", "1_000", "007", "1,5"),
    *("nan", "NaN", "NA", "N/A", "n/a", "null", "NULL", "None", "none", "<NA>", "#N/A", "inf", "-inf"),
    *("true", "True", "FALSE", "yes", "no"),
    *("2020-01-01", "2020-01-01T00:00:00", "2024-02-29 12:00:00Z", "12:30:00", "1999-12-31 23:59:59.5"),
    *(",", ",,,", ";", "\\", "\\\\", "a\\", '"', '""', "''", "'", "-", "=", "@", "+", "#", "--", "..", "/"),
    *("[]", "{}", '{"prompt": "x"}', '["a", "b"]', "[1]", "null,null", "file_name,caption,label"),
    *("=1+1", "=cmd|' /C calc'!A0", "@SUM(1)", "+1", "-a cat", "'=1+1", "'quoted'", '"a", "b"', "''=a"),
    *("# a line that begins with a hash", "%PDF", "---", "--- a\nb: c\n...", "<!-- rpo export kto -->"),
    *("http://a.b/c.png", "images/a.png", "data:image/png;base64,AAAA", "a.jpg_0.jpg", "../../x", "C:\\x"),
    *(
        "\u0645\u0631\u062d\u0628\u0627 \u202b\u05e9\u05c1\u05dc\u05d5\u05dd\u202c",
        "e\u0301\u00e9",
        "\u1e9e\u00df",
    ),
    *(
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 family",
        "\u2764\ufe0f",
        "\U0001f1e9\U0001f1ea",
        "\U0010ffff",
    ),
    *(
        "<image> $prompt {prompt} %s",
        "[INST] <|im_start|>",
        "a\u2028b",
        "a\u2029b",
        "a\x85b",
        "a\x0cb",
        "a\x1cb",
    ),
    *(
        "a\nb",
        "a\r\nb",
        "a\rb",
        "a\n\nb",
        "a\tb",
        "a\u00a0b",
        "a\ufeffb",
        "a\x7fb",
        "a\x01b",
        "a\\nb",
        "\\u2028",
    ),
]
PIECES = [
    *("-", "=", "@", "+", "'", '"', '""', "'=", ",", ";", "\t", "|", "\\", "\\n", "#", "%", "$", "<", "{"),
    *("\n", "\r\n", "\r", "\n\n", "\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\u2028", "\u2029", "\x01"),
    *(" ", "  ", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u200d", "\u200f", "\u202e", "\u2066", "\u00ad"),
    *("e\u0301", "\u00e9", "\u212b", "\u00c5", "\ufb01", "\u05d0", "\u0639", "\u4e2d", "\x7f", "\uffff"),
    *("a", "cat", "1", "nan", "null", "true", "2020-01-01", "x" * 300, "\u2028" * 900, "\U0001f600" * 2000),
    "\U0001f9d1\u200d\U0001f680",
]  # fmt: skip


def caption_of(text):
    """A text as a prompt is kept: trimmed, at most 10,000 characters, with something to see."""
    text = trimmed(text.replace("\0", "")[:MAX_CHARACTERS])
    text = text if normalised(text) else trimmed(f"a{text}")
    assert unfit(text) is None
    return text


pieced = st.lists(st.sampled_from(PIECES), min_size=2, max_size=9).map("".join)
captions = st.one_of(pieced, pieced, pieced, st.text(max_size=12), st.sampled_from(WHOLE))
many = st.lists(captions.map(caption_of), min_size=180, max_size=220, unique=True)
GENERATED = {
    "deadline": None,
    "phases": [Phase.generate],  # what differs is said by the assertion; shrinking would export for hours
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, writer):
    """Makes a dataset with a pair for each caption, every fifth held out; all edits that won."""
    pictures = [writer.png(n, side=2) for n in range(4)]

    def make(texts):
        folder = tmp_path_factory.mktemp("captions") / "run" / "dataset"
        folder.mkdir(parents=True)
        pairs = [pair_of(n, text) for n, text in enumerate(texts)]

        def row_of(pair):
            n = int(pair.a_id[1:]) % 2
            return to_row(pair, side_of(pair.a_id, pictures[n]), side_of(pair.b_id, pictures[2 + n]), 1)

        rows = ((pair.split, row_of(pair)) for pair in sorted(pairs, key=lambda pair: pair.pair_id))
        splits = write_splits(folder, schema(["clip"], shares=True), rows)
        empty = {name: {} for name in ("models", "counts", "rejects", "sources", "scales", "settings")}
        columns = schema(["clip"], shares=True)
        facts = Facts(build="b" * 64, pairs=PairNumbers(pairs), splits=splits, columns=columns, **empty)
        commit(folder, render(facts), splits)
        return folder

    return make


def pair_of(n, text):
    return Pair(
        pair_id=content_key("pair", n, text),
        prompt_id=content_key("prompt", text),
        prompt=text,
        pair_kind="edit",
        a_id=f"a{n}",
        b_id=f"b{n}",
        a_sha256=f"{n}a",
        b_sha256=f"{n}b",
        critique_id="c",
        instruction=text,
        tries=1,
        rewards_a={"clip": 0.25},
        rewards_b={"clip": 0.5},
        margins={"clip": 1.0},
        margin=1.0,
        agreement=1.0,
        dispersion=0.25,
        change=0.125,
        hash_distance=9,
        verdict="accepted",
        reason="edit_won",
        winner="b",
        split="validation" if n % 5 == 4 else "train",
        share=0.25,
    )


def side_of(key, data):
    said = {"critique": "it is blue", "flaws": ("colour: blue",)} if key[0] == "a" else {}
    return Side(key, sha256(data), data, "m", said.get("critique"), said.get("flaws"), {"seed": 0})


def question(prompt):
    return f"Does it show <<{prompt}>>?"


def written(folder, format):
    """The folder of an export, with what the exporter counted."""
    out = folder.parent / format
    out.mkdir()
    job = ExportJob(Built.at(folder), out, question, lambda: None)
    counts, _ = registry.load("exporters", format)(job)
    return out, counts, job


def loaded(column, *args, **options):
    rows = [row for split in SPLITS for row in load_dataset(*args, split=split, **options)[column]]
    return Counter(rows)


# --- the readers of each format ------------------------------------------------------------------------


def by_datasets(out, cache):
    return loaded("caption", str(out), cache_dir=cache)


def by_imagefolder(out, cache):
    for row in load_dataset("imagefolder", data_dir=str(out), split="train", cache_dir=cache):
        assert row["instruction"] == row["prompt"]
        assert row["share"] == 0.75
    return loaded("prompt", "imagefolder", data_dir=str(out), cache_dir=cache)


def by_json(out, cache):
    """By whoever splits lines wherever Python does; by `datasets`; by pandas."""
    found = Counter()
    for split in SPLITS:
        path = out / f"{split}.jsonl"
        rows = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
        assert all((out / row["chosen"]).is_file() and row["share"] == 0.75 for row in rows)
        found.update(row["prompt"] for row in rows)
    files = {split: str(out / f"{split}.jsonl") for split in SPLITS}
    assert loaded("prompt", "json", data_files=files, cache_dir=cache) == found
    return found


def by_tars(out, cache):
    """By the rule of the webdataset library (.txt is UTF-8, .json a document), and by `datasets`."""
    found = Counter()
    for file in out.glob("*.tar"):
        with tarfile.open(file) as tar:
            for member in tar:
                data = tar.extractfile(member).read()
                if member.name.endswith(".original_prompt.txt"):
                    found[data.decode("utf-8")] += 1
                if member.name.endswith(".json"):
                    assert json.loads(data)["share"] == 0.75
    files = {split: f"{out}/{split}-*.tar" for split in SPLITS}
    assert loaded("original_prompt.txt", "webdataset", data_files=files, cache_dir=cache) == found
    return found


def by_kto(out, cache):
    """By `datasets`, as its 2.14 read JSON lines, and by our own trainer; each caption is there twice."""
    found = loaded("caption", "imagefolder", data_dir=str(out), cache_dir=cache)
    whole = [row for s in SPLITS for row in paj.read_json(out / s / "metadata.jsonl").to_pylist()]
    assert Counter(row["caption"] for row in whole) == found
    assert len({row["file_name"] for row in whole}) == len(whole)  # 2.14 keeps one row a file
    assert Counter(one.caption for s in SPLITS for one in read_singles(out, s)) == found
    assert set(found.values()) == {2}
    return Counter({caption: count // 2 for caption, count in found.items()})


def by_simpletuner(out, cache):
    """A caption file is decoded whole, and split at line feeds unless its backend says otherwise."""
    found = {}
    for backend in json.loads((out / "multidatabackend.json").read_text()):
        if backend.get("caption_strategy") == "textfile":
            files = [
                (path, path.with_suffix(".txt").read_bytes().decode("utf-8"))
                for path in (out / backend["instance_data_dir"]).glob("*.png")
            ]
            split = not backend.get("disable_multiline_split", False)
            found[backend["id"]] = Counter(
                value
                for _, text in files
                for value in (list(filter(None, text.split("\n"))) if split and "\n" in text else [text])
            )
    assert found["preferred"] == found["rejected"]
    return found["preferred"]


def by_trl(out, cache):
    found = Counter()
    for split in SPLITS:
        for row in load_dataset(str(out), split=split, cache_dir=cache):
            (_, asked) = row["prompt"][0]["content"]
            prompt = asked["text"].removeprefix("Does it show <<").removesuffix(">>?")
            assert row["completion"][0]["content"][0]["text"].endswith(f"Instructions: {prompt}")
            found[prompt] += 1
    return found


READERS = {
    "pickapic": by_datasets,
    "imagefolder": by_imagefolder,
    "webdataset": by_tars,
    "kto": by_kto,
    "simpletuner": by_simpletuner,
    "trl": by_trl,
    "jsonl": by_json,
}


def check_readers(folder, texts):
    disable_progress_bars()
    for format, reader in READERS.items():
        out, counts, job = written(folder, format)
        wanted = Counter(texts)
        if format == "simpletuner":
            wanted = Counter(text for n, text in enumerate(texts) if n % 5 != 4)
        found = reader(out, str(folder.parent / "cache"))
        assert found == wanted, (format, list(found - wanted)[:3], list(wanted - found)[:3])
        assert not job.refused
        rows = sum(counts.values()) + job.left_out.total()
        assert rows == len(texts) * (2 if format == "kto" else 1)


def check_importers(folder, texts):
    for format in READERS:
        if format == "trl":  # conversations about pictures; nothing to import
            continue
        out = folder.parent / format
        line = open_line(folder.parent / f"back-{format}")
        for split in SPLITS if format != "simpletuner" else (None,):
            report = import_source(line, out, split=split)
            assert report.rejected == 0
        wanted = {text for n, text in enumerate(texts) if format != "simpletuner" or n % 5 != 4}
        found = set(line.store.columns("images", ["prompt"])["prompt"].to_pylist())
        assert found == wanted, (format, list(found - wanted)[:3], list(wanted - found)[:3])


def test_every_exporter_has_a_reader_here():
    assert set(READERS) == set(registry.exporters)


def test_captions_that_look_like_something_else_come_back_from_every_format(dataset):
    texts = list(dict.fromkeys(map(caption_of, [*WHOLE, "a\u2028" * 5000 + "a", "\U0001f600" * 10_000])))
    assert max(map(len, texts)) == 10_000
    folder = dataset(texts)
    check_readers(folder, texts)
    check_importers(folder, texts)


@given(many)
@settings(max_examples=1, **GENERATED)
def test_hostile_captions_come_back_from_every_format(dataset, texts):
    check_readers(dataset(texts), texts)


@pytest.mark.slow
@given(many)
@settings(max_examples=11, **GENERATED)
def test_two_thousand_hostile_captions_come_back_from_every_format(dataset, texts):
    folder = dataset(texts)
    check_readers(folder, texts)
    check_importers(folder, texts)


# --- where a format cannot hold a caption --------------------------------------------------------------


def test_a_table_of_nothing_but_dates_is_refused_and_counted_where_its_reader_would_make_times_of_it(
    dataset,
):
    dates = ["2020-01-01", "2021-05-05T00:00:00", "2022-02-02 12:30:00", "1999-12-31", "a cat"]
    folder = dataset(dates)  # the cat is held out
    out, counts, job = written(folder, "kto")
    assert counts == {"validation": 2}
    assert job.refused.total() == 8
    assert not (out / "train").exists()
    times = paj.read_json(io.BytesIO(json_line({"caption": dates[0]}).encode()))
    assert str(times.schema.field("caption").type).startswith("timestamp")  # what the refusal spares


@pytest.mark.parametrize("format", ["pickapic", "imagefolder", "webdataset", "simpletuner", "trl"])
def test_dates_alone_stay_texts_where_the_format_says_so(dataset, format):
    dates = [f"2020-01-{day:02}" for day in range(1, 11)]
    folder = dataset(dates)
    out, _, job = written(folder, format)
    found = READERS[format](out, str(folder.parent / "cache"))
    assert set(found) == {date for n, date in enumerate(dates) if format != "simpletuner" or n % 5 != 4}
    assert not job.refused


def test_the_question_of_a_critic_that_does_not_hold_the_prompt_as_it_is_is_counted(dataset):
    folder = dataset(["a cat", "an <image> of a cat", "[INST] a dog", "two", "three"])
    out = folder.parent / "trl"
    out.mkdir()
    harmless = lambda prompt: prompt.replace("<", "").replace("[", "")  # noqa: E731
    job = ExportJob(Built.at(folder), out, harmless, lambda: None)
    registry.load("exporters", "trl")(job)
    assert list(job.changed.values()) == [2]


# --- JSON lines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end", ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
)
def test_a_json_line_is_one_line_to_whoever_splits_lines(end):
    value = {"prompt": f"a{end}b", f"k{end}": [end, "\u00e9\U0001f600"]}
    text = json_line(value)
    assert text.splitlines(keepends=True) == [text]
    assert json.loads(text) == value
    assert "\u00e9\U0001f600" in text  # letters stay readable


def test_prompts_of_an_evaluation_are_one_line_each():
    texts = ("a\u2028b", "c\x85d", "e\u2029f", "g\nh")
    lines = prompt_lines(Prompts(texts, "here")).decode().splitlines()
    assert tuple(json.loads(line)["prompt"] for line in lines) == texts


# --- shares --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label_0", "share_0", "share"),
    [(1, 0.7, 0.7), (0, 0.7, 0.3), (0, 0.0, 1.0), (1, 0.0, 0.0), (1, None, None)],
)
def test_a_share_is_told_as_that_of_the_chosen_picture(label_0, share_0, share):
    row = {"label_0": label_0, "image_0_uid": "a", "image_1_uid": "b", "share_0": share_0}
    assert rich_columns(row).get("share") == share
    assert "share" not in rich_columns({name: value for name, value in row.items() if name != "share_0"})
