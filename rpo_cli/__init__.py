"""rpo: rich preference datasets for text-to-image models.

The functions here are the ones that the commands call:

    from rpo_cli import open_line, run
    line = open_line("RUN", {"generate.images_per_prompt": 4}, preset="shapes")
    report = run(line, until="build-pairs")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rpo_cli.version import __version__ as __version__

if TYPE_CHECKING:
    from rpo_cli.line.dataset.inputs import build_pairs as build_pairs
    from rpo_cli.line.evaluation.evaluate import evaluate as evaluate
    from rpo_cli.line.rounds.checks import plan_rounds as plan_rounds
    from rpo_cli.line.rounds.train import train_rounds as train_rounds
    from rpo_cli.line.run import plan as plan
    from rpo_cli.line.run import probe as probe
    from rpo_cli.line.run import run as run
    from rpo_cli.line.session import Line as Line
    from rpo_cli.line.session import open_line as open_line
    from rpo_cli.line.stage import run_stage as run_stage
    from rpo_cli.line.status import status as status
    from rpo_cli.line.sweep.run import sweep as sweep
    from rpo_cli.line.training import fine_tune as fine_tune

_WHERE = {
    "Line": "rpo_cli.line.session",
    "open_line": "rpo_cli.line.session",
    "evaluate": "rpo_cli.line.evaluation.evaluate",
    "plan": "rpo_cli.line.run",
    "probe": "rpo_cli.line.run",
    "plan_rounds": "rpo_cli.line.rounds.checks",
    "train_rounds": "rpo_cli.line.rounds.train",
    "build_pairs": "rpo_cli.line.run",
    "run": "rpo_cli.line.run",
    "run_stage": "rpo_cli.line.stage",
    "status": "rpo_cli.line.status",
    "sweep": "rpo_cli.line.sweep.run",
    "fine_tune": "rpo_cli.line.training",
}
__all__ = [
    "Line",
    "build_pairs",
    "evaluate",
    "fine_tune",
    "open_line",
    "plan",
    "plan_rounds",
    "probe",
    "run",
    "run_stage",
    "status",
    "sweep",
    "train_rounds",
]


def __getattr__(name: str) -> Any:
    """Loads the line when a name of it is first asked for, so that `import rpo_cli` stays light."""
    if name not in _WHERE:
        raise AttributeError(f"module 'rpo_cli' has no attribute '{name}'")
    return getattr(import_module(_WHERE[name]), name)
