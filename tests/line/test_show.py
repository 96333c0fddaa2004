"""One row's story over a real store."""

import pytest
from PIL import Image as Pillow

from rpo_cli.errors import UsageError
from rpo_cli.line.show import extract, story
from rpo_cli.line.work.base import settings_group
from rpo_cli.pictures import encode_png, sha256
from rpo_cli.records import (
    Critique,
    Edit,
    Flaw,
    Image,
    ImageData,
    Pair,
    Prompt,
    Reject,
    RewardScore,
    Verdict,
)
from rpo_cli.store import open_store

MADE = {"seed": 0, "batch_size": 8, "settings": "{}", "environment": "{}"}
SIZE = {"width": 8, "height": 8}


def png(grey):
    return encode_png(Pillow.new("RGB", (8, 8), (grey,) * 3))


def image(key, grey, prompt="p1", **more):
    data = png(grey)
    return Image(
        **{**MADE, **more},
        **SIZE,
        image_id=key,
        prompt_id=prompt,
        prompt="a star",
        index=grey,
        sha256=sha256(data),
        image=ImageData(bytes=data),
    )


def critique(key, source, instructions=("mend it",)):
    return Critique(
        **MADE,
        critique_id=key,
        image_id=source.image_id,
        image_sha256=source.sha256,
        prompt_id="p1",
        prompt="a star",
        text="it is grey",
        flaws=(Flaw(aspect="colour", detail="grey"),),
        instructions=instructions,
        reply="{}",
        attempt=0,
    )


def edit(key, source, said, grey):
    data = png(grey)
    return Edit(
        **MADE,
        **SIZE,
        edit_id=key,
        image_id=source.image_id,
        image_sha256=source.sha256,
        critique_id=said.critique_id,
        prompt_id="p1",
        prompt="a star",
        instruction="mend it",
        attempt=0,
        guidance=1.0,
        image_guidance=1.0,
        sha256=sha256(data),
        image=ImageData(bytes=data),
    )


def pair(key, a, b, kind="edit"):
    return Pair(
        pair_id=key,
        prompt_id="p1",
        prompt="a star",
        pair_kind=kind,
        a_id=a.key,
        b_id=b.key,
        a_sha256=a.sha256,
        b_sha256=b.sha256,
        critique_id=None,
        instruction=None,
        tries=1,
        rewards_a={},
        rewards_b={},
        margins={},
        margin=1.0,
        agreement=1.0,
        dispersion=None,
        change=0.1,
        hash_distance=1,
        verdict="accepted",
        reason="edit_won",
        winner="b",
        split="train",
    )


@pytest.fixture
def run(tmp_path):
    """Two pictures of one prompt: the first critiqued and edited twice, one of each pair kind; a reject."""
    store = open_store(tmp_path / "run", create=True)
    group = settings_group("generate", "{}", 0)
    store.write_manifest({"groups": {"generate": group, "critique": "x", "edit": "x"}})
    first, second = image("aaaa1111", 10), image("aaaa2222", 20)
    said = critique("cccc1111", first)
    mended, other = edit("eeee1111", first, said, 30), edit("eeee2222", first, said, 40)
    store.commit("prompts", [Prompt(prompt_id="pppp", prompt="other", source="s")])
    store.commit("prompts", [Prompt(prompt_id="p1", prompt="a star", source="s")])
    store.commit("images", [first, second])
    store.commit("critiques", [said, critique("cccc2222", second, ())])
    store.commit("edits", [mended, other])
    store.commit("pairs", [pair("ffff1111", first, mended), pair("ffff2222", first, second, "seeds")])
    store.commit(
        "verdicts", [Verdict(verdict_id="vvvv1111", pair_id="ffff1111", choice="b", reviewer="me")]
    )
    reject = {"stage": "edit", "reason": "black_image", "detail": "", "settings": "{}"}
    store.commit("rejects", [Reject(key_of="rrrr1111", input_id="cccc1111", **reject)])
    score = {"subject": "image", "prompt_id": "p1", "reward": "clip", "batch_size": 8}
    store.commit(
        "rewards",
        [
            RewardScore(
                score_id="dddd1111",
                subject_id="aaaa1111",
                subject_sha256=first.sha256,
                score=2.5,
                settings="{}",
                environment="{}",
                **score,
            )
        ],
    )
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("key", "chapters"),
    [
        ("ffff1111", "p1 aaaa1111 cccc1111 eeee1111 rrrr1111 ffff1111 vvvv1111"),
        ("ffff2222", "p1 aaaa1111 aaaa2222 cccc1111 cccc2222 rrrr1111 ffff2222"),
        ("eeee2222", "p1 aaaa1111 cccc1111 eeee2222 rrrr1111"),
        ("cccc1111", "p1 aaaa1111 cccc1111 eeee1111 eeee2222 rrrr1111 ffff1111 vvvv1111"),
        ("aaaa2222", "p1 aaaa2222 cccc2222 ffff2222"),
        ("vvvv", "p1 aaaa1111 cccc1111 eeee1111 rrrr1111 ffff1111 vvvv1111"),
        ("rrrr", "p1 aaaa1111 cccc1111 eeee1111 eeee2222 rrrr1111 ffff1111 vvvv1111"),
        ("dddd", "p1 aaaa1111 cccc1111 eeee1111 eeee2222 dddd1111 rrrr1111 ffff1111 ffff2222 vvvv1111"),
        ("pppp", "pppp"),
    ],
)
def test_every_kind_of_row_has_its_story(run, key, chapters):
    """From the prompt to the pair, and nothing of rows that took no part in it."""
    found = story(run, key)

    assert [chapter.id for chapter in found.chapters] == chapters.split()
    (asked,) = [chapter.id for chapter in found.chapters if chapter.asked]
    assert asked.startswith(key)


def test_scores_stand_with_their_picture_and_rows_of_older_settings_are_marked(run):
    chapters = {chapter.id: chapter for chapter in story(run, "ffff1111").chapters}

    assert chapters["aaaa1111"].scores == {"clip": 2.5}
    assert (chapters["aaaa1111"].older, chapters["eeee1111"].older) == (False, True)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("aaa", "too short"),
        ("aaaa", "image aaaa1111, image aaaa2222"),
        ("zzzz", "no row"),
        ("", "too short"),
    ],
)
def test_an_id_that_means_no_row_or_several_is_refused(run, key, said):
    with pytest.raises(UsageError, match=said):
        story(run, key)


def test_pictures_are_written_as_they_are_stored(run, tmp_path):
    files = extract(story(run, "ffff1111"), tmp_path / "out")

    assert [file.name for file in files] == ["image-aaaa1111.png", "edit-eeee1111.png"]
    assert files[0].read_bytes() == png(10)


def test_an_id_of_a_foreign_run_is_no_path(run, tmp_path):
    """A run directory is data: an id may be anything, a file name may not."""
    open_store(run).commit("images", [image("../../escape", 77)])

    (file,) = extract(story(run, "../../escape"), tmp_path / "out")

    assert file.parent == tmp_path / "out"
    assert not (tmp_path / "escape.png").exists()
