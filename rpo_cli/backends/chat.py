"""The messages of OpenAI's chat API: what is sent of a conversation, and what an answer says."""

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from PIL.Image import Image as Picture

from rpo_cli.backends.http import BadAnswer
from rpo_cli.protocols import Message
from rpo_cli.templates import disarm

KEPT_PICTURES = 64  # encoded, so that both turns of a row send the same bytes without encoding twice
REASONING = ("reasoning_content", "reasoning")  # where servers put what a model thinks


def turn(message: Message, *, uuids: bool) -> dict[str, Any]:
    """Pictures first: what both turns of a row have in common stands at the front, byte for byte."""
    parts: list[dict[str, Any]] = [_picture(picture, uuid=uuids) for picture in message.pictures]
    # what a model said is data as soon as it is sent back; users' texts were disarmed by their template
    text = disarm(message.text) if message.role == "assistant" else message.text
    return {"role": message.role, "content": [*parts, {"type": "text", "text": text}] if parts else text}


def _picture(picture: Picture, *, uuid: bool) -> dict[str, Any]:
    url, sha256 = _encoded(_Same(picture))
    part: dict[str, Any] = {"type": "image_url", "image_url": {"url": url}}
    return part | ({"uuid": sha256} if uuid else {})


class _Same:
    """A picture as a key: the same object is the same picture, and a cached one stays alive."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture

    def __hash__(self) -> int:
        return id(self.picture)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.picture is self.picture


@lru_cache(maxsize=KEPT_PICTURES)
def _encoded(same: _Same) -> tuple[str, str]:
    """(PNG as a data URL, SHA-256 of the PNG)."""
    buffer = io.BytesIO()
    same.picture.convert("RGB").save(buffer, "PNG", compress_level=1)
    data = buffer.getvalue()
    return f"data:image/png;base64,{base64.b64encode(data).decode()}", hashlib.sha256(data).hexdigest()


def choice_of(answer: Any) -> dict[str, Any]:
    """The first reply of an answer.

    Raises:
        BadAnswer: it holds none.
    """
    try:
        choice = answer["choices"][0]
    except (KeyError, IndexError, TypeError):
        choice = None
    if not isinstance(choice, dict):
        raise BadAnswer(f"the server's answer holds no reply: {json.dumps(answer)[:200]}")
    return choice


def content_of(choice: Mapping[str, Any], field: str = "content") -> str:
    """The text of a reply in one field of its message; "" where there is none.

    Raises:
        BadAnswer: what is there is no text.
    """
    message = choice.get("message")
    content = message.get(field) if isinstance(message, dict) else None
    if isinstance(content, list):  # parts, as in a question
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    if content is not None and not isinstance(content, str):
        raise BadAnswer("the server's reply is no text")
    return (content or "").encode("utf-8", "replace").decode()  # JSON can hold what no text can


def words_of(choice: Mapping[str, Any]) -> tuple[str, str]:
    """The text of a reply, and the field for reasoning that it stood in where its content is empty."""
    text = content_of(choice).strip()
    for field in () if text else REASONING:
        if found := content_of(choice, field).strip():
            return found, field
    return text, ""
