"""The oracle as a measure that a bench can name: does a picture show what its prompt says?"""

from PIL.Image import Image as Picture

from rpo_cli.errors import UsageError
from rpo_cli.shapes.grammar import parse_caption
from rpo_cli.shapes.oracle import compare, read


def shapes_oracle(picture: Picture, prompt: str) -> dict[str, bool]:
    """attribute → right, for the attributes that the prompt names; all True: the picture is fully right.

    Raises:
        UsageError: the prompt is no caption of the shapes world.
    """
    wanted = parse_caption(prompt)
    if wanted is None:
        raise UsageError(f"'{prompt}' is no prompt of the shapes world", "see prompts/shapes.txt")
    return compare(read(picture), wanted)
