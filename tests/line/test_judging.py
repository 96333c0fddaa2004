"""A judge of pairs in the line: standings by hand, both orders asked, nothing asked twice."""

import json

import pytest
from PIL import Image

from rpo_cli.backends.judge import PairJudge
from rpo_cli.line.session import open_line
from rpo_cli.line.stage import run_stage
from rpo_cli.line.work import base
from rpo_cli.line.work.generate import live_images
from rpo_cli.line.work.pairwise import judge_works
from rpo_cli.protocols import Message, Reply, Task, Weights
from rpo_cli.stages.score import Finish, JudgeTask, Standing, step_judgements, wanted_judgements
from tests.critic_server import MODEL, running


class Eye:
    """Likes the brighter picture; `bias` always says the first."""

    lanes = 0

    def __init__(self, bias=False, words=None):
        self.asked, self.bias, self.words = [], bias, words or []

    def setup(self): ...

    def reply(self, conversations, *, schema, seeds, max_tokens):
        (one,) = conversations
        first, second = (picture.getpixel((0, 0)) for picture in one[0].pictures)
        self.asked.append((first, second, seeds))
        if self.words:
            return [Reply(self.words.pop(0), "stop")]
        better = "first" if self.bias or first > second else "second" if second > first else "tie"
        return [Reply(json.dumps({"reason": "brighter", "better": better}), "stop")]


@pytest.fixture
def judge(monkeypatch):
    """Makes a judge that sees with an `Eye`; both are returned."""

    def make(**how):
        eye = Eye(**how)
        monkeypatch.setattr("rpo_cli.registry.load", lambda kind, name: lambda *a, **b: eye)
        return PairJudge(Weights("m")), eye

    return make


def grey(level):
    return Image.new("RGB", (8, 8), (level,) * 3)


def test_a_verdict_is_about_the_picture_and_not_about_what_it_is_compared_with():
    class Brighter:
        """1 for the brighter of two, -1 for the darker; the first one is what both are compared with."""

        def score(self, prompts, images):
            first, second = (picture.getpixel((0, 0))[0] for picture in images)
            return [0.0, float((second > first) - (second < first))]

    tasks = [
        Task(str(level), "", JudgeTask("edit", "e", "s", "p", "a", grey(level), other=grey(100)))
        for level in (200, 50, 100)
    ]
    assert step_judgements(tasks, Brighter(), 4) == [1.0, -1.0, 0.0]


@pytest.mark.parametrize(("level", "value"), [(200, 1.0), (50, -1.0), (100, 0.0)])
def test_a_picture_is_judged_against_the_first_of_its_prompt_in_both_orders(judge, level, value):
    made, eye = judge()
    assert made.score(["p", "p"], [grey(100), grey(level)]) == [0.0, value]
    assert [pair[:2] for pair in eye.asked] == [
        ((level,) * 3, (100,) * 3),
        ((100,) * 3, (level,) * 3),
    ]


def test_a_judge_that_always_says_the_first_gives_ties(judge):
    assert judge(bias=True)[0].score(["p", "p"], [grey(0), grey(9)]) == [0.0, 0.0]


def test_pictures_of_other_prompts_are_never_compared(judge):
    made, eye = judge()
    assert made.score(["p", "q"], [grey(0), grey(9)]) == [0.0, 0.0]
    assert eye.asked == []


GOOD = '{"reason": "x", "better": "first"}'
BAD = ["", "first", "[]", "{}", '{"better": "first"}', '{"reason": "x", "better": "third"}', "[" * 9999]


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_verdict_is_asked_again_sampled_and_then_there_is_none(judge, bad):
    made, eye = judge(words=[bad, GOOD, GOOD])
    assert made.score(["p", "p"], [grey(0), grey(9)]) == [0.0, 0.0]  # the first in both orders: a tie
    assert [asked[2] for asked in eye.asked] == [None, [1], None]
    (_, score) = judge(words=[bad] * 6)[0].score(["p", "p"], [grey(0), grey(9)])
    assert score != score


def task_of(**told):
    (task,) = wanted_judgements(
        lambda: [JudgeTask("edit", "e", "s", "p", "x", **told)], reward="judge", settings="{}"
    )
    return task


def test_an_edit_stands_on_the_score_of_its_original():
    """Original at -1, the edit judged better: 0; the difference of the two is the verdict."""
    finish = Standing(Finish("judge", "{}", "{}"), {("p", "orig"): -1.0})
    tasks = [
        task_of(other_id="i", other_sha256=other, first_sha256="first") for other in ("orig", "unknown")
    ]
    known, unknown = finish(tasks, [1.0, 1.0], 1)
    assert known.score == 0.0
    assert unknown.reason == "score_not_finite"


def test_the_first_picture_of_a_prompt_asks_nothing():
    (task,) = wanted_judgements(
        lambda: [JudgeTask("image", "i", "s", "p", "x", grey(1))], reward="judge", settings="{}"
    )
    assert step_judgements([task], None, 1) == [0.0]


def test_a_key_names_what_was_compared():
    def key(**other):
        return task_of(**{"other_id": "i", "other_sha256": "o", "first_sha256": "f", **other}).key

    assert len({key(), key(other_sha256="x"), key(first_sha256="x")}) == 3


class Painter:
    def setup(self): ...

    def generate(self, prompts, seeds):
        return [grey(seed % 250) for seed in seeds]


def test_a_run_is_judged_by_a_server_each_comparison_asked_once_in_both_orders(tmp_path, monkeypatch):
    real = base.build_backend
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        base,
        "build_backend",
        lambda kind, *a, **b: Painter() if kind == "generators" else real(kind, *a, **b),
    )
    model = tmp_path / "model"
    model.mkdir()
    (model / "model_index.json").write_text("{}")
    (model / "weights.safetensors").write_bytes(b"")
    (tmp_path / "prompts.txt").write_text("a red star\na blue star\n")
    with running() as server:
        options = {
            "prompts.file": str(tmp_path / "prompts.txt"),
            "generate.generator": str(model),
            "generate.images_per_prompt": 3,
            "pairs.strategy": "seeds",
            "score.rewards": (f"judge={MODEL}", f"vqascore={MODEL}"),
            "score.backend": "openai",
            "critique.critic_url": (server.url,),
        }
        line = open_line(tmp_path / "run", options)
        run_stage(line, "generate")
        report = run_stage(line, "score")
        asked = [body for body in server.asked if "image_url" in json.dumps(body)]
        again = run_stage(open_line(tmp_path / "run", options), "score")

    assert (report.wanted, report.made, again.made) == (12, 12, 0)
    judged = [body for body in asked if "better" in json.dumps(body)]
    assert len(judged) == 2 * 2 * 2  # two prompts, two pictures beside the first, two orders
    assert len({json.dumps(body) for body in judged}) == 8
    (of_images,) = judge_works(line, "judge", MODEL)
    rows = list(line.store.fetch("rewards", of_images.keys))
    assert {row.score for row in rows} <= {-1.0, 0.0, 1.0}
    firsts = {row["sha256"] for row in live_images(line) if row["index"] == 0}
    assert {row.score for row in rows if row.subject_sha256 in firsts} == {0.0}
    assert Message("user", "x", grey(1), (grey(2),)).pictures[1].getpixel((0, 0)) == (2, 2, 2)
