"""rpo report over a real store: drawn pictures, made-up scores, no model."""

import json
import re

import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from rpo_cli.cli import app
from rpo_cli.errors import UsageError
from rpo_cli.line.report.build import write_report
from rpo_cli.line.session import open_line
from rpo_cli.line.work.base import settings_group
from rpo_cli.line.work.generate import take_prompts
from rpo_cli.pictures import decode, encode_png, sha256
from rpo_cli.records import Critique, Edit, Flaw, Image, ImageData, Pair, Reject, content_key
from rpo_cli.store import open_store
from rpo_cli.visuals.contact_sheet import VERDICTS

EVIL = "<script>alert('x')</script> ../../etc \u202eover"
ROW = {"prompt_id": "p", "batch_size": 8, "settings": "{}", "environment": "{}", "seed": 0}
SIZED = {"width": 64, "height": 64}


def png(colour):
    page = Pillow.new("RGB", (64, 64), "white")
    ImageDraw.Draw(page).rectangle((20, 20, 40, 40), fill=colour)
    return encode_png(page)


def rows_of(number, reason, prompt):
    """One pair with its two pictures and its critique."""
    before, after = png((number * 9 % 256, 0, 0)), png((0, 0, 255 - number * 9 % 256))
    if reason == "corrupt_image":
        after = b"no picture"
    name = content_key(number)
    common = {**ROW, "prompt": prompt, "image_id": name}
    image = Image(**common, **SIZED, index=0, sha256=sha256(before), image=ImageData(bytes=before))
    critique = Critique(
        **common,
        critique_id=name,
        image_sha256=image.sha256,
        text=f"critique {number} of {prompt}",
        flaws=(Flaw(aspect="colour", detail="it is red"),),
        instructions=("make it blue",),
        reply="{}",
        attempt=0,
    )
    edit = Edit(
        **common,
        **SIZED,
        edit_id=content_key("edit", number),
        image_sha256=image.sha256,
        critique_id=name,
        instruction="make it blue",
        attempt=0,
        guidance=1.0,
        image_guidance=1.0,
        sha256=sha256(after),
        image=ImageData(bytes=after),
    )
    return image, critique, edit, paired(number, reason, prompt, image, edit)


def paired(number, reason, prompt, image, edit):
    winner = {"edit_won": "b", "seed_won": "b", "reversed": "a"}.get(reason)
    margin = -1.0 if reason == "reversed" else 1.0 + number / 100
    scored = reason != "unscored"
    return Pair(
        pair_id=content_key("pair", number),
        prompt_id="p",
        prompt=prompt,
        pair_kind="edit",
        a_id=image.key,
        b_id=edit.key,
        a_sha256=image.sha256,
        b_sha256=edit.sha256,
        critique_id=image.key,
        instruction="make it blue",
        tries=1,
        rewards_a={"clip": 0.1, "vqa": 0.3} if scored else {},
        rewards_b={"clip": 0.2, "vqa": 0.2} if scored else {},
        margins={"clip": margin, "vqa": -margin} if scored else {},
        margin=margin if scored else 0.0,
        agreement=0.5,
        dispersion=None,
        change=0.1,
        hash_distance=9,
        verdict="accepted" if winner else "dropped",
        reason=reason,
        winner=winner,
        split="train",
    )


def make_run(path, reasons=tuple(VERDICTS), prompt=EVIL):
    store = open_store(path, create=True)
    store.write_manifest({"preset": "shapes", "prompts": {"count": 5, "group": "0", "source": "list.txt"}})
    made = [rows_of(number, reason, f"{prompt} {number}") for number, reason in enumerate(reasons)]
    for table, found in zip(
        ("images", "critiques", "edits", "pairs"), zip(*made, strict=True), strict=True
    ):
        store.commit(table, found, group="0badcafe")
    folder = path / "train" / "first"
    folder.mkdir(parents=True)
    lines = [
        {"split": split, "step": n, "loss": 0.7 - n / 10}
        for n in (1, 2)
        for split in ("train", "validation")
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"split":"train","st'
    (folder / "metrics.jsonl").write_text(text)
    return path


def files(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_scores_of_critiques_are_told_on_their_card_and_in_one_table(tmp_path):
    run = make_run(tmp_path / "run", reasons=("edit_won",))
    store = open_store(run)
    write_report(run)
    assert "Scores of the critiques" not in (run / "report" / "index.html").read_text()
    (critique,) = store.fetch("critiques", store.keys("critiques"))

    scored = critique.model_copy(update={"scores": {"<b>detail": 4.0}})
    for part in (run / "critiques").rglob("*.parquet"):
        part.unlink()
    store = open_store(run)
    store.commit("critiques", [scored], group="0badcafe")
    write_report(run)
    index = (run / "report" / "index.html").read_text()

    assert "Scores of the critiques" in index
    assert "of 5: &lt;b&gt;detail 4" in index
    assert "Duplicates" in index


def test_pictures_of_older_settings_are_no_duplicates(tmp_path):
    """The same bytes made again under other settings: the run has one picture, not two."""
    run = make_run(tmp_path / "run", reasons=("edit_won",))
    store = open_store(run)
    (image,) = store.fetch("images", store.keys("images"))
    store.commit("images", [image.model_copy(update={"image_id": "again"})], group="0ddba115")
    assert duplicated(run) == ("3", "1")

    store.write_manifest({**store.read_manifest(), "groups": {"generate": "0ddba115"}})

    assert duplicated(run) == ("2", "0")


def duplicated(run):
    """(Pictures, those equal to another) as the report tells them."""
    write_report(run)
    index = (run / "report" / "index.html").read_text()
    rows = ("pictures", "of them equal to another")
    return tuple(re.search(rf">{name}</td>\s*<td[^>]*>([\d,]+)<", index)[1] for name in rows)


def test_every_verdict_and_drop_reason_is_counted_and_shown(tmp_path):
    run = make_run(tmp_path / "run")
    done = write_report(run)
    made = files(run / "report")
    index = made["index.html"].decode()
    everything = b"".join(data for name, data in made.items() if name.endswith(".html")).decode()

    assert (done.pairs, done.shown) == (len(VERDICTS), len(VERDICTS))
    for reason, words in VERDICTS.items():
        assert f"<td>{reason}</td>" in index
        assert f'<p class="verdict">{words}' in everything


def test_pictures_are_there_decode_and_are_the_only_ones(tmp_path):
    run = make_run(tmp_path / "run")
    write_report(run)
    made = files(run / "report")
    named = {
        name
        for page, data in made.items()
        if page.endswith(".html")
        for name in re.findall(r'src="([^"]+)"', data.decode())
    }

    assert named == {name for name in made if name.endswith(".png")}
    assert all(max(decode(made[name]).size) >= 64 for name in named)
    assert "picture cannot be read" in "".join(data.decode("utf-8", "ignore") for data in made.values())


def test_hostile_prompts_are_text_and_name_no_file(tmp_path):
    run = make_run(tmp_path / "run")
    write_report(run)
    made = files(run / "report")
    pages = [data.decode() for name, data in made.items() if name.endswith(".html")]

    assert not any("<script" in page or "\u202e" in page for page in pages)
    assert any("&lt;script&gt;alert(&#39;x&#39;)" in page for page in pages)
    assert all(re.fullmatch(r"[a-z]+(-\d+)?\.html|pictures/[0-9a-f]{32}\.png", name) for name in made)


def test_equal_runs_give_equal_bytes_and_a_second_report_leaves_nothing_behind(tmp_path):
    first, second = make_run(tmp_path / "a" / "run"), make_run(tmp_path / "b" / "run")
    write_report(first, shown=400)
    write_report(second, shown=4)
    assert files(first / "report") != files(second / "report")
    write_report(second, shown=400)
    assert files(first / "report") == files(second / "report")
    write_report(second, shown=4)
    assert len(files(second / "report")) < len(files(first / "report"))


def test_training_curves_are_drawn_though_the_last_line_is_cut_off(tmp_path):
    run = make_run(tmp_path / "run")
    write_report(run)
    index = (run / "report" / "index.html").read_text()

    assert "first (not finished)" in index
    assert 'aria-label="first: loss"' in index


def test_a_report_goes_where_it_is_told_but_never_over_other_files(tmp_path):
    run, out = make_run(tmp_path / "run"), tmp_path / "out"
    assert write_report(run, out).path == str(out / "index.html")
    write_report(run, out)  # its own files may be replaced

    (out / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        write_report(run, out)
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("<h1>my site</h1>")
    with pytest.raises(UsageError, match=r"index\.html"):
        write_report(run, site)
    assert (site / "index.html").read_text() == "<h1>my site</h1>"


@pytest.mark.parametrize("made", [False, True])
def test_without_a_run_or_without_pairs_the_error_has_two_lines(tmp_path, capsys, made):
    run = tmp_path / "run"
    if made:
        open_store(run, create=True).write_manifest({"preset": "shapes"})
    code = app.call(["report", str(run)])
    error = capsys.readouterr().err.strip().splitlines()

    assert code == 2
    assert [line.partition(":")[0] for line in error] == ["error", "hint"]
    assert not (run / "report").exists()


def test_the_command_prints_where_to_look(tmp_path, capsys):
    run = make_run(tmp_path / "run", reasons=("edit_won", "unchanged"))

    assert app.call(["report", str(run), "--quiet"]) == 0
    assert capsys.readouterr().out == f"{run}/report/index.html\n"
    assert app.call(["report", str(run), "--json", "--out", str(tmp_path / "out")]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 2


def test_rows_and_rejects_count_by_the_settings_the_stage_last_ran_with(tmp_path):
    """Two groups of pictures and rejects of two settings: those of run.json's group count."""
    run = make_run(tmp_path / "run", reasons=("edit_won", "unchanged"))
    store = open_store(run)
    now, before = settings_group("generate", "now", 0), settings_group("generate", "before", 0)
    store.commit("images", [rows_of(n, "edit_won", "p")[0] for n in (7, 8, 9)], group=now)
    common = {"stage": "generate", "input_id": "p", "detail": ""}
    reject = [
        Reject(key_of=f"{reason}{n}", reason=reason, settings=settings, **common)
        for reason, settings, count in (("black_image", "now", 3), ("old_reason", "before", 2))
        for n in range(count)
    ]
    store.commit("rejects", reject)
    store.write_manifest({**store.read_manifest(), "groups": {"generate": now}})
    write_report(run)
    index = (run / "report" / "index.html").read_text()
    cells = re.findall(r"<tr><th scope=\"row\">generate</th>(.*?)</tr>", index)

    assert before != now
    assert [re.findall(">([^<>]+)<", cell) for cell in cells] == [
        ["3", "3", "2"],
        ["rejected", "black_image", "3"],
    ]
    assert "old_reason" not in index


def test_the_report_names_the_lists_that_were_kept_out_and_counts_what_they_cost(tmp_path):
    run = make_run(tmp_path / "run")
    (tmp_path / "bench.txt").write_text("A  CAT\n")
    (tmp_path / "p.txt").write_text("a cat\na dog\n")
    names = {"prompts.file": str(tmp_path / "p.txt"), "prompts.leave_out": (str(tmp_path / "bench.txt"),)}
    take_prompts(open_line(run, names))
    assert open_store(run).read_manifest()["prompts"]["kept_out"] == {"bench.txt": 1}
    write_report(run)
    assert (
        "prompts of bench.txt are kept out (1 rows of the source)"
        in (run / "report" / "index.html").read_text()
    )
