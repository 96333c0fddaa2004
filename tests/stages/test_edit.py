"""Which edits are wanted of a critique."""

from rpo_cli.stages import edit


def test_a_guidance_that_is_named_twice_wants_each_edit_once():
    source = edit.Critiqued("c", "sha", "p", "a red ball", ("make it red",), "i")
    numbers = {"guidance": (7.5, 7.5, 3.0), "image_guidance": (1.5,), "seed": 0, "settings": "{}"}
    found = list(edit.wanted([source], mode="joined", attempts=2, **numbers))
    assert len({task.key for task in found}) == len(found) == 4
    assert [task.payload.attempt for task in found] == [0, 1, 2, 3]
