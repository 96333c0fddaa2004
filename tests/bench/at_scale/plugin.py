"""The backends of `instant.py` as a stranger's plugin. Imports nothing heavy."""

from pathlib import Path

NAME = "instant"
KINDS = {"generators": "Generator", "critics": "Critic", "editors": "Editor", "rewards": "Reward"}


def install(folder: Path) -> Path:
    """A folder for PYTHONPATH in which Python finds their entry points, as pip would have written them."""
    info = folder / "rpo_instant-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rpo-instant\nVersion: 1\n")
    place = "tests.bench.at_scale.instant"
    points = (f"[rpo.{kind}]\n{NAME} = {place}:{found}\n" for kind, found in KINDS.items())
    (info / "entry_points.txt").write_text("\n".join(points))
    return folder
