"""An editor behind a server that speaks OpenAI's images API (also vLLM-Omni's, LocalAI's and others')."""

import base64
import binascii
import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL.Image import Image as Picture

from rpo_cli.backends.http import BadAnswer, Form, NoAnswer
from rpo_cli.backends.loading import resized
from rpo_cli.backends.servers import Servers, endpoints
from rpo_cli.errors import CorruptImage, RpoError
from rpo_cli.pictures import decode, encode_png
from rpo_cli.protocols import EditRequest, Refused, Weights

MOST_BYTES = 64 * 2**20  # of an answer: a PNG of some megapixels in base64
OPTIONAL = ("response_format", "seed")  # fields that some servers do not know


class HttpEditor:
    """POST URL/images/edits with one picture and one instruction each, many in flight.

    An answer that only names an address is refused: nothing is fetched from where a server points. A server
    that does not know `seed` draws by chance, so the same row made again may differ.

    Source: https://platform.openai.com/docs/api-reference/images/createEdit
    """

    def __init__(
        self,
        weights: Weights,
        *,
        urls: Sequence[str] = (),
        key_variable: str | None = None,
        in_flight: int = 4,
        timeout: float = 300.0,
        tries: int = 6,
    ) -> None:
        """`device` and `dtype` are the server's own matter."""
        self._model, self._urls, self._key_variable = weights.model, tuple(urls), key_variable
        self.lanes, self._timeout, self._tries = in_flight, timeout, tries
        self._unknown: frozenset[str] = frozenset()
        self._servers: Any = None

    def setup(self) -> None:
        found = endpoints(self._urls, self._key_variable, section="edit", name="editor_url")
        self._servers = Servers(found, seconds=self._timeout, tries=self._tries, most_bytes=MOST_BYTES)

    def edit(
        self, requests: Sequence[EditRequest], *, guidance: float | None, image_guidance: float | None
    ) -> list[Picture | Refused | None]:
        """One picture per request, one after the other; call it from many threads.

        Raises:
            RpoError: no server answers.
        """
        return [self._one(request) for request in requests]

    def _one(self, request: EditRequest) -> Picture | Refused | None:
        fields = {"model": self._model, "prompt": request.instruction, "n": "1"}
        fields |= {"response_format": "b64_json", "seed": str(request.seed)}
        picture = encode_png(request.image)
        while True:
            known = {name: value for name, value in fields.items() if name not in self._unknown}
            try:
                answer = self._servers.ask("/images/edits", form(known, picture))
            except BadAnswer as error:
                named = [name for name in OPTIONAL if name in known and name in str(error)]
                if not named:
                    return Refused(f"the server refuses: {error}")
                self._unknown |= {named[0]}
                continue
            except RpoError as error:
                if request.instruction or not _broke(error.__cause__):
                    raise
                # a server that breaks at an empty instruction would at every call
                return Refused(f"the server fails: {error.message}")
            return _picture(answer, request.image.size)


def _broke(cause: BaseException | None) -> bool:
    """Whether a server answered that it failed, and not that it is busy or away."""
    return isinstance(cause, NoAnswer) and not cause.unreachable and cause.why.startswith("HTTP 500")


def form(fields: Mapping[str, str], picture: bytes) -> Form:
    """multipart/form-data of text fields and a PNG named `image` (RFC 7578)."""
    digest = hashlib.sha256(picture + repr(sorted(fields.items())).encode()).hexdigest()
    boundary = f"rpo-{digest[:40]}"  # cannot stand in what it is the hash of
    said = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="image.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    ).encode()
    body = io.BytesIO()
    body.writelines([*said, head, picture, f"\r\n--{boundary}--\r\n".encode()])
    return Form(body.getvalue(), f"multipart/form-data; boundary={boundary}")


def _picture(answer: Any, size: tuple[int, int]) -> Picture | Refused:
    try:
        found = answer["data"][0]
        encoded = found.get("b64_json")
    except (KeyError, IndexError, TypeError, AttributeError):
        return Refused("the server's answer holds no data[0]")
    if not isinstance(encoded, str):
        what = "an address, which is not followed," if "url" in found else "nothing"
        return Refused(f"the server answers with {what} instead of a picture (b64_json)")
    try:
        return resized(decode(base64.b64decode(encoded, validate=True)), size)
    except (binascii.Error, ValueError, CorruptImage) as error:
        return Refused(f"the server's answer is no picture: {error}")
