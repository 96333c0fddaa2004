"""The size that a picture is trained at. Pictures that are compared share one frame.

The rule: pictures that stand in one pair, directly or through pairs between them, are framed together.
Their frame is made for the smallest width and the smallest height among them; each picture is resized
until it covers the frame's bucket and its centre is cropped. So neither size nor crop tells which one won.
Without buckets the bucket is the square that the model, or `train.resolution`, names.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rpo_cli.train.families.encoders import covering

Size = tuple[int, int]  # width, height in pixels
SizeCondition = Literal["real", "target"]
LONGEST = 2  # sides of a bucket over the side of its square


@dataclass(frozen=True)
class Frame:
    """What pictures that are compared share.

    Attributes:
        bucket: the size they are trained at.
        original: the smallest width and height among them.
    """

    bucket: Size
    original: Size

    def time_ids(self, condition: SizeCondition) -> Tensor:
        """SDXL's size condition, (6,) float32: original height and width, crop top and left, height, width.

        Args:
            condition: "real" says what happened to the picture; "target" says that it was never larger
                than its bucket nor cropped, as Salesforce's script does for every picture.
        """
        width, height = self.bucket
        if condition == "target":
            return torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32)
        covered = covering(self.original, self.bucket)
        left, top = (covered[0] - width) // 2, (covered[1] - height) // 2
        values = [self.original[1], self.original[0], top, left, height, width]
        return torch.tensor(values, dtype=torch.float32)


def frames(
    sizes: Mapping[str, Size], compared: Iterable[Sequence[str]], buckets: list[Size]
) -> dict[str, Frame]:
    """The frame of every picture in `sizes`; `compared` are the pairs and lists."""
    leader = {name: name for name in sizes}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for first, *others in compared:
        for other in others:
            leader[find(first)] = find(other)
    smallest: dict[str, Size] = {}
    for name, (width, height) in sizes.items():
        known = smallest.get(find(name), (width, height))
        smallest[find(name)] = (min(width, known[0]), min(height, known[1]))
    made = {name: Frame(nearest_bucket(size, buckets), size) for name, size in smallest.items()}
    return {name: made[find(name)] for name in sizes}


def aspect_buckets(side: int, grain: int) -> list[Size]:
    """Sizes of at most side² pixels and of all shapes from 1:4 to 4:1, the square among them.

    Widths go in steps of a sixteenth of `side` (64 pixels at 1024), or of `grain` where that is coarser.
    """
    step = max(grain, round(side / 16 / grain) * grain)
    shortest = math.ceil(side / LONGEST / step) * step
    found = {(side, side)}
    for width in range(shortest, LONGEST * side + 1, step):
        height = min(side * side // width // step * step, LONGEST * side)
        if height >= shortest:
            found |= {(width, height), (height, width)}
    return sorted(found)


def nearest_bucket(size: Size, buckets: list[Size]) -> Size:
    """The bucket of the nearest shape, the largest of several."""
    shape = math.log(size[0] / size[1])
    return min(buckets, key=lambda b: (round(abs(math.log(b[0] / b[1]) - shape), 9), -b[0] * b[1], b))
