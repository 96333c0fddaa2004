"""Prompt lists: `python -m rpo_cli.shapes.prompts train 96 --seed 7 > prompts/shapes.txt`."""

import argparse
import random
import sys

from rpo_cli.shapes.grammar import (
    CAPTION_VARIANTS,
    SPLITS,
    all_single_scenes,
    caption,
    sample_scene,
    split_of,
)


def prompts(split: str, count: int, seed: int) -> list[str]:
    """`count` different captions of scenes of one split, one and two objects in equal shares.

    Raises:
        ValueError: the split has not so many with one object.
    """
    most = 2 * CAPTION_VARIANTS * sum(split_of(scene) == split for scene in all_single_scenes())
    if count > most:
        raise ValueError(f"the split {split!r} has {most} prompts in equal shares, not {count}")
    rng = random.Random(f"prompts {split} {seed}")
    found: dict[str, None] = {}
    while len(found) < count:
        objects = 1 + len(found) % 2
        found[caption(sample_scene(rng, split, objects), rng.randrange(CAPTION_VARIANTS))] = None
    return list(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("split", choices=SPLITS)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.stdout.write("\n".join(prompts(options.split, options.count, options.seed)) + "\n")


if __name__ == "__main__":
    main()
