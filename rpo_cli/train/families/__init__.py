"""Model families: how to load, condition and call a denoiser. One adapter class each.

To add one: a class with the methods of `contract.Family`, a registry line, and the contract test runs
over it. Weights are read from safetensors files only.
"""

from rpo_cli import registry
from rpo_cli.errors import UsageError
from rpo_cli.train.families.contract import Family
from rpo_cli.train.families.folder import Folder


def open_family(model: str, revision: str | None = None) -> Family:
    """The family that serves the model's own model_index.json.

    Raises:
        UsageError: no diffusers model, or of a family that is not in the registry.
    """
    index = Folder(model, revision).index()
    names = registry.names("families")
    for name in names:
        family = registry.load("families", name)
        if family.serves(index):
            found: Family = family(model, revision)
            return found
    raise UsageError(
        f"{model}: a {index.get('_class_name', 'pipeline')} cannot be trained yet",
        f"train.model takes {', '.join(names)}; see `rpo list families`",
    )
