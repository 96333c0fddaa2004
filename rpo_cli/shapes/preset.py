"""The preset `shapes`: the embedded models by their local folders, and settings that suit them.

Nothing else knows about these models: they load through the same backends as any other folder.
"""

from pathlib import Path
from typing import Any

MODELS = Path(__file__).parent / "models"

NOTES = (
    "The embedded critic and rewards were trained on the ground truth of a closed world of shapes. "
    "Figures from this preset show what the line does with a critic and rewards of their accuracy, "
    "not what models trained on the web would do.",
)


def settings() -> dict[str, Any]:
    """Settings for the embedded shapes world: 64x64 pictures, small models that learned from truth."""
    critic = str(MODELS / "critic")
    return {
        "notes": NOTES,
        "prompts": {"file": str(default_prompts())},
        "generate": {
            "generator": str(MODELS / "text-to-image"),
            "images_per_prompt": 2,
            "steps": 24,
            "guidance": 1.15,  # more hides the habits that the line is to find, less leaves unreadable ones
            "batch_size": 16,
        },
        "critique": {"critic": critic, "batch_size": 16, "max_tokens": 160},
        "edit": {
            "editor": str(MODELS / "editor"),
            "steps": 12,
            "guidance": (1.8,),
            "image_guidance": (1.5,),
            "batch_size": 16,
        },
        # best and worst seed of a prompt beside the edits: the same pictures and scores, more pairs
        "pairs": {"strategy": "all"},
        "train": {
            "beta": 500.0,
            "learning_rate": 3e-4,
            "steps": 60,
            "warmup_steps": 10,
            "caption_dropout": 0.0,
            "flip": False,  # positions are words of the prompts
        },
        "score": {"rewards": (f"clip={MODELS / 'reward'}", f"vqascore={critic}"), "batch_size": 32},
    }


def default_prompts() -> Path:
    """The prompt list that ships with the package: of the train split, none of dev or test."""
    packaged = Path(__file__).parent.parent / "prompts" / "shapes.txt"
    checkout = Path(__file__).parent.parent.parent / "prompts" / "shapes.txt"
    return packaged if packaged.exists() else checkout
