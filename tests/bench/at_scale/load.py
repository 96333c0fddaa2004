"""What a training reads of its dataset before any model: `python -m tests.bench.at_scale.load DATASET`."""

import sys
from pathlib import Path

from rpo_cli.train.data.pairs import fingerprint, read_pairs


def main() -> None:
    dataset = Path(sys.argv[1])
    pairs = [pair for split in ("train", "validation") for pair in read_pairs(dataset, split)]
    sys.stderr.write(f"{len(pairs):,} pairs, {fingerprint(dataset)}\n")


if __name__ == "__main__":
    main()
