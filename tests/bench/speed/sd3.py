"""A tiny Stable Diffusion 3 without its T5: `python -m tests.bench.speed.sd3 FOLDER`."""

import sys
from pathlib import Path

from tests.train.families.conftest import sd3

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    sd3(folder.with_name(f"{folder.name}-words"), with_t5=False).save_pretrained(folder)
