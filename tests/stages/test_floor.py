"""What an editor changes when asked for nothing: which pictures, and what follows from their changes."""

import random

import pytest
from PIL import Image as Picture

from rpo_cli.protocols import Refused, Task
from rpo_cli.records import Reject
from rpo_cli.stages import edit

SAID = {"guidance": (7.5,), "image_guidance": (1.5,), "seed": 0, "settings": "{}"}


def picture(number, prompt="a red ball", prompt_id="p"):
    return edit.Critiqued("", f"i{number}", f"sha{number}", prompt_id, prompt, ())


def wanted(pictures, count=16, **changed):
    return list(edit.wanted_floor(lambda: pictures, count=count, **{**SAID, **changed}))


def sources(tasks):
    return [task.payload.source.image_sha256 for task in tasks]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        # quartile: the 4th of 16. All within twice of it: the largest
        ([0.010 + 0.0005 * i for i in range(16)], 0.0175),
        # one that fell apart has no say
        ([0.010] * 15 + [0.6], 0.010),
        # four of 16 beyond twice the quartile, a quarter and no more: the largest of the others
        ([0.010] * 11 + [0.019] + [0.3] * 4, 0.019),
        # five: the editor makes edits up, and the quartile is left
        ([0.010] * 10 + [0.019] + [0.3] * 5, 0.010),
        # exactly twice the quartile is within
        ([0.01, 0.01, 0.01, 0.01, 0.02], 0.02),
        ([0.0, 0.0, 0.0, 0.0], 0.0),
        ([0.07], 0.07),
        # two pictures: the first is the quartile, and half lie beyond twice of it
        ([0.01, 0.05], 0.01),
    ],
)
def test_the_floor_is_the_largest_change_of_its_own_noise(changes, told):
    shuffled = random.Random(1).sample(changes, len(changes))
    assert edit.floor_of(shuffled) == pytest.approx(told, abs=1e-12)


def test_a_floor_is_one_of_the_changes_and_no_more_than_twice_the_quartile():
    draw = random.Random(0)
    for _ in range(500):
        changes = [draw.lognormvariate(-4, draw.random() * 2) for _ in range(draw.randint(1, 40))]
        found = edit.floor_of(changes)
        quartile = sorted(changes)[(len(changes) - 1) // 4]
        assert found in changes
        assert quartile <= found <= 2 * quartile


def test_sixteen_pictures_are_chosen_whatever_their_order_and_each_once():
    pictures = [picture(number) for number in range(40)]
    first = sources(wanted(pictures))
    mixed = sources(wanted(random.Random(3).sample(pictures, 40) + pictures))

    assert len(set(first)) == len(first) == 16
    assert mixed == first


def test_fewer_pictures_are_all_taken_and_another_one_displaces_one_at_most():
    few = [picture(number) for number in range(5)]
    assert len(wanted(few)) == 5
    before = set(sources(wanted([picture(number) for number in range(60)])))
    after = set(sources(wanted([picture(number) for number in range(61)])))
    assert len(before - after) <= 1


def test_every_pair_of_guidances_has_a_floor_of_its_own_and_none_twice():
    found = wanted([picture(1)], guidance=(3.0, 7.5, 3.0), image_guidance=(1.0, None))
    assert {(task.payload.guidance, task.payload.image_guidance) for task in found} == {
        (3.0, 1.0),
        (3.0, None),
        (7.5, 1.0),
        (7.5, None),
    }
    assert len({task.key for task in found}) == len(found) == 4


def test_a_floors_key_hangs_on_everything_that_it_is_made_of_and_is_no_edits_key():
    first = wanted([picture(1)])
    others = [
        wanted([picture(2)]),
        wanted([picture(1, prompt="a dog")]),
        wanted([picture(1)], guidance=(3.0,)),
        wanted([picture(1)], image_guidance=(2.0,)),
        wanted([picture(1)], seed=1),
        wanted([picture(1)], settings='{"steps":9}'),
    ]
    assert len({task.key for (task,) in [first, *others]}) == 7
    assert first[0].payload.chain == ("",)
    assert first[0].payload.purpose == "floor"


# --- editors that refuse -------------------------------------------------------------------------------


class Raising:
    """An editor that raises of an empty instruction, and says what of another one."""

    def __init__(self, error):
        self.error = error

    def edit(self, requests, *, guidance, image_guidance):
        if any(not request.instruction for request in requests):
            raise self.error
        return [request.image for request in requests]


def task(text, purpose):
    source = edit.Critiqued("c", "i", "sha", "p", "a red ball", (text,))
    payload = edit.EditTask(source, (text,), 0, None, None, 5, Picture.new("L", (8, 8), 9), purpose)
    return Task(f"{purpose} {text}", "i", payload)


ERRORS = [ValueError("empty prompt"), RuntimeError("shape [1, 0]"), IndexError("0"), TypeError("None")]


@pytest.mark.parametrize("error", ERRORS)
def test_what_an_editor_raises_of_nothing_is_its_refusal(error):
    (found,) = edit.step([task("", "floor")], Raising(error), 4)
    assert found == Refused(f"{type(error).__name__}: {error}")
    (row,) = edit.Finish("{}", "{}")([task("", "floor")], [found], 4)
    assert isinstance(row, Reject)
    assert (row.reason, row.stage, row.input_id) == ("no_floor", "edit", "i")
    assert str(error) in row.detail


@pytest.mark.parametrize("error", ERRORS)
def test_what_an_editor_raises_of_an_instruction_is_no_refusal(error):
    with pytest.raises(type(error)):
        edit.step([task("", "answer")], Raising(error), 4)


def test_memory_that_ran_out_is_no_refusal_either():
    with pytest.raises(RuntimeError, match="out of memory"):
        edit.step([task("", "floor")], Raising(RuntimeError("CUDA out of memory")), 4)


def test_edits_of_the_floor_share_no_batch_with_others():
    assert edit.bucket(task("", "floor")) != edit.bucket(task("", "answer"))


def test_a_black_edit_of_nothing_gives_no_floor():
    (row,) = edit.Finish("{}", "{}")([task("", "floor")], [None], 4)
    assert (row.reason, row.detail) == ("no_floor", "black_image")
