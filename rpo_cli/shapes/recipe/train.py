"""Trains the models of the shapes world: `python -m rpo_cli.shapes.recipe.train
{vae,text-to-image,decoder,editor,critic,reward,...} --help`.

Only the door: each name is one module with `main(arguments)`. To add a model: its module, its line
in TRAINERS.
"""

from __future__ import annotations

import importlib
import sys

TRAINERS = {
    "vae": "rpo_cli.shapes.recipe.train_vae",
    "text-to-image": "rpo_cli.shapes.recipe.train_text_to_image",
    "decoder": "rpo_cli.shapes.recipe.train_decoder",
    "editor": "rpo_cli.shapes.recipe.train_editor",
    "critic": "rpo_cli.shapes.recipe.train_critic",
    "reward": "rpo_cli.shapes.recipe.train_reward",
    "seen": "rpo_cli.shapes.recipe.seen",
    "generated": "rpo_cli.shapes.recipe.generated",
    "export": "rpo_cli.shapes.recipe.export",
    "manifest": "rpo_cli.shapes.manifest",
}


def main() -> None:
    """Hand the rest of the command line to the named trainer."""
    if len(sys.argv) < 2 or sys.argv[1] not in TRAINERS:
        sys.exit(f"usage: python -m rpo_cli.shapes.recipe.train {{{','.join(TRAINERS)}}} [options]")
    importlib.import_module(TRAINERS[sys.argv[1]]).main(sys.argv[2:])


if __name__ == "__main__":
    main()
