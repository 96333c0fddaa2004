"""The stage that has no command of its own: `python -m tests.bench.at_scale.score RUN [BATCH_SIZE]`."""

import sys

from rpo_cli import open_line
from rpo_cli.line.stage import run_stage


def main() -> None:
    run, *size = sys.argv[1:]
    told = {"score.batch_size": int(size[0])} if size else {}
    found = run_stage(open_line(run, told, create=False), "score")
    sys.stderr.write(f"{found.made:,} made of {found.wanted:,}\n")


if __name__ == "__main__":
    main()
