"""edit, the floor: a picture and an empty instruction → how much an editor changes when asked for nothing.

An editor draws the whole picture anew, so that no two of them leave it alike; what one changes by itself
is measured on some pictures of the run, and an edit that changed no more is no pair.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from rpo_cli.protocols import Task
from rpo_cli.records import content_key, row_seed, seen_as
from rpo_cli.stages.edit import Critiqued, EditTask

NOTHING = ""  # the instruction
SPREAD = 2.0  # how far beyond the lower quartile a change is still the editor's own noise


def wanted(
    pictures: Iterable[Critiqued],
    *,
    count: int,
    guidance: Sequence[float | None],
    image_guidance: Sequence[float | None],
    seed: int,
    settings: str,
) -> Iterator[Task]:
    """Up to `count` pictures, the same whatever their order, once at every pair of guidances."""
    for source in chosen(pictures, count):
        for text, image in dict.fromkeys(product(guidance, image_guidance)):
            made = ("edit-floor", seen_as(source.image_sha256, source.decoding), source.prompt)
            key = content_key(*made, text, image, seed, settings)
            own_seed = row_seed(seed, *made)
            yield Task(
                key,
                source.image_id,
                EditTask(source, (NOTHING,), 0, text, image, own_seed, purpose="floor"),
            )


def chosen(pictures: Iterable[Critiqued], count: int) -> list[Critiqued]:
    """Those of the lowest hashes, each picture once; another picture of the run displaces one at most."""
    unique: dict[str, Critiqued] = {}
    for picture in sorted(pictures, key=lambda picture: (picture.prompt_id, picture.image_id)):
        unique.setdefault(picture.image_sha256, picture)
    order = sorted(unique, key=lambda sha256: content_key("edit-floor", sha256))
    return [unique[sha256] for sha256 in order[:count]]


def floor_of(changes: Sequence[float]) -> float:
    """The change up to which an edit says nothing, from those under an empty instruction, at least one.

    The largest within `SPREAD` times the lower quartile: a single picture that fell apart has no say. Where
    more than a quarter lie beyond that, the editor invents edits when it is asked for none (InstructPix2Pix
    learns to, from instructions that are left out), and the lower quartile is what is left of its noise.

    Args:
        changes: mean absolute pixel differences in [0, 1].
    """
    ordered = sorted(changes)
    quartile = ordered[(len(ordered) - 1) // 4]
    near = [change for change in ordered if change <= SPREAD * quartile]
    return quartile if 4 * (len(ordered) - len(near)) > len(ordered) else near[-1]
