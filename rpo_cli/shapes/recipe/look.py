"""What a picture shows, as class numbers: classifying teaches a vision tower to see before it talks.

Things are told in canonical order (left or top first), so that a label follows from the picture alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rpo_cli.shapes.grammar import (
    BACKGROUNDS,
    COLOURS,
    POSITIONS,
    SHAPES,
    SIZES,
    UNKNOWN,
    Scene,
    canonical,
)

IGNORED = -100
_GROUNDS, _SHAPES, _COLOURS = (*BACKGROUNDS, UNKNOWN), (*SHAPES, UNKNOWN), (*COLOURS, UNKNOWN)
_PLACES = (*POSITIONS, "left of", "above")
LOOK_SIZES = (4, len(_GROUNDS), len(_PLACES)) + 2 * (len(_SHAPES), len(_COLOURS), len(SIZES))


def label(scene: Scene) -> list[int]:
    """One class per question of LOOK_SIZES; IGNORED where a scene has no answer."""
    scene = canonical(scene)
    count = len(scene.things)
    place = scene.position if count == 1 else scene.relation
    classes = [min(count, 3), _GROUNDS.index(scene.background)]
    classes.append(_PLACES.index(place) if place in _PLACES and count in (1, 2) else IGNORED)
    for index in range(2):
        if count not in (1, 2) or index >= count:
            classes += [IGNORED] * 3
            continue
        thing = scene.things[index]
        classes += [_SHAPES.index(thing.shape), _COLOURS.index(thing.colour), SIZES.index(thing.size)]
    return classes


def look_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the questions; logits (N, sum of LOOK_SIZES), labels (N, questions)."""
    parts = logits.float().split(LOOK_SIZES, dim=1)
    losses = [
        F.cross_entropy(part, labels[:, i], ignore_index=IGNORED, reduction="sum")
        for i, part in enumerate(parts)
    ]
    return torch.stack(losses).sum() / labels.ne(IGNORED).sum()
