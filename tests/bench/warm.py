"""A bench whose processes are forks of one that has its imports: `python -m tests.bench.warm MODULE ...`.

For rehearsals alone: what a process takes is then not what it takes by itself.
"""

import importlib
import os
import runpy
import sys
from collections.abc import Mapping, Sequence

from tests.bench.at_scale import processes
from tests.bench.speed import place

HEAVY = (
    *("torch", "peft", "transformers.models.clip", "transformers.models.idefics3.modeling_idefics3"),
    *("diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion", "pyarrow.parquet"),
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_instruct_pix2pix",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3",
    *("rpo_cli.cli.app", "rpo_cli.train.loop", "rpo_cli.backends.generator", "rpo_cli.backends.critic"),
)


def forked(command: Sequence[str], environment: Mapping[str, str], out: int, errors: int) -> int:
    """`processes.start` of a Python command: `-m MODULE ...`, or `-c` with rpo's own door."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(errors, 2)
        os.environ.update(environment)
        _python(list(command[1:]))
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001, a process of its own ends here
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _python(words: list[str]) -> None:
    flag, what, *rest = words
    if flag == "-m":
        sys.argv = [what, *rest]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        from rpo_cli.cli.app import main

        sys.argv = ["rpo", *rest]
        main()


def main() -> None:
    for name in HEAVY:
        importlib.import_module(name)
    processes.start = forked
    place.LAUNCH = []
    module, *sys.argv[1:] = sys.argv[1:]
    importlib.import_module(module).main()


if __name__ == "__main__":
    main()
