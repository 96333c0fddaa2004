"""Text that came from files or models, made safe to print."""

import re

# ANSI sequences; other C0 and C1 controls but tab and newline; marks that reverse the reading direction
_CONTROL = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    "|[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]"
)


def clean(text: str) -> str:
    """`text` without anything that could steer a terminal."""
    return _CONTROL.sub("", text)
