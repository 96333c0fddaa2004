"""Which edits are wanted of a critique, and what each link of a chain is asked to edit."""

import pytest
from PIL import Image as Picture

from rpo_cli.protocols import Refused, Task
from rpo_cli.stages import edit

SAID = {"mode": "joined", "attempts": 1, "guidance": (7.5,), "image_guidance": (1.5,)}
SAID |= {"seed": 0, "settings": "{}"}
ASKED = ("make it red", "add a dog", "dim the light")


def critique(*instructions, sha="sha", prompt="a red ball"):
    return edit.Critiqued("c", "i", sha, "p", prompt, instructions or ("make it red",))


def wanted(source=None, **changed):
    return list(edit.wanted(lambda: [source or critique()], **{**SAID, **changed}))


def test_a_guidance_that_is_named_twice_wants_each_edit_once():
    found = wanted(attempts=2, guidance=(7.5, 7.5, 3.0))
    assert len({task.key for task in found}) == len(found) == 4
    assert [task.payload.attempt for task in found] == [0, 1, 2, 3]


def test_an_edits_key_hangs_on_everything_that_it_is_made_of():
    first = wanted()
    others = [
        wanted(critique(sha="other")),
        wanted(critique(prompt="a blue ball")),
        wanted(critique("add a dog")),
        wanted(attempts=2)[1:],
        wanted(guidance=(3.0,)),
        wanted(image_guidance=(2.0,)),
        wanted(seed=1),
        wanted(settings='{"steps":9}'),
    ]
    assert wanted(attempts=2)[0].key == first[0].key
    assert len({task.key for (task,) in [first, *others]}) == 9


def test_attempts_and_chains_have_noise_of_their_own_and_guidances_share_it():
    same, other = (task.payload.seed for task in wanted(attempts=2))
    assert same == wanted()[0].payload.seed
    assert len({same, other, wanted(critique("add a dog"))[0].payload.seed, *seeds_of(seed=1)}) == 4
    assert seeds_of(guidance=(3.0, 7.5), image_guidance=(1.0, 1.5)) == {same}


def seeds_of(**changed):
    return {task.payload.seed for task in wanted(**changed)}


@pytest.mark.parametrize(
    ("mode", "chains"),
    [
        ("joined", [("make it red; add a dog; dim the light",)]),
        ("each", [("make it red",), ("add a dog",), ("dim the light",)]),
        ("sequence", [("make it red", "add a dog", "dim the light")]),
    ],
)
def test_a_mode_says_what_the_instructions_of_a_critique_become(mode, chains):
    assert [task.payload.chain for task in wanted(critique(*ASKED), mode=mode)] == chains
    assert edit.chains((), mode) == []


class Editor:
    """Each edit is 10 grey levels brighter than what it was given; what `refused` says is refused."""

    def __init__(self, refused=()):
        self.asked, self.refused = [], refused

    def edit(self, requests, *, guidance, image_guidance):
        self.asked.append([(grey(r.image), r.instruction, r.seed) for r in requests])
        return [
            Refused("no") if r.instruction in self.refused else flat(grey(r.image) + 10) for r in requests
        ]


def flat(level):
    return Picture.new("L", (8, 8), level)


def grey(picture):
    return picture.getpixel((0, 0))


def task(chain, level, seed=5):
    payload = edit.EditTask(critique(), tuple(chain), 0, 7.5, 1.5, seed, flat(level))
    return Task(f"{chain} {level}", "c", payload)


def test_each_link_edits_what_the_one_before_gave_in_order_and_with_noise_of_its_own():
    editor = Editor()

    pictures = edit.step([task(ASKED, 100), task(ASKED, 200, seed=6)], editor, 2)

    told = [[(level, text) for level, text, _ in link] for link in editor.asked]
    assert told == [
        [(100, "make it red"), (200, "make it red")],
        [(110, "add a dog"), (210, "add a dog")],
        [(120, "dim the light"), (220, "dim the light")],
    ]
    assert [grey(picture) for picture in pictures] == [130, 230]
    assert len({seed for link in editor.asked for _, _, seed in link}) == 6


def test_a_refused_link_ends_its_chain_and_the_batch_keeps_its_shape():
    editor = Editor(refused=("add a dog",))

    pictures = edit.step([task(ASKED, 100), task(("make it red", "wider", "taller"), 200)], editor, 2)

    assert isinstance(pictures[0], Refused)
    assert grey(pictures[1]) == 230
    assert [len(link) for link in editor.asked] == [2, 2, 2]


def test_a_last_batch_is_filled_up_to_its_size_and_gives_its_own_pictures_only():
    editor = Editor()

    pictures = edit.step([task(("make it red",), 100), task(("add a dog",), 200)], editor, 4)

    assert [(level, text) for level, text, _ in editor.asked[0]] == [
        (100, "make it red"),
        *[(200, "add a dog")] * 3,
    ]
    assert [grey(picture) for picture in pictures] == [110, 210]
