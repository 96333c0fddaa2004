"""What stands before every page: who may ask, from where, and what a browser may do with the answer.

Plain ASGI. Reading is refused to a page of another site that has its name resolve to this machine (DNS
rebinding), writing to every page that is not ours (CSRF); with a token, all of it to who lacks it.
"""

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGIN = "/login"
OPEN = (LOGIN, "/review.css")  # what is told without the token
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # not "no-referrer": with it browsers send forms with the origin "null"
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Access:
    """Who may use the server.

    Attributes:
        host: the address that it is bound to, as the user named it.
        token: asked for at the first page; None on loopback.
        key: the run's secret, from which cookies and form tokens are made.
    """

    host: str
    port: int
    key: bytes
    reviewer: str
    token: str | None = None

    @property
    def cookie(self) -> str:
        """Cookies do not tell ports apart, so the name does."""
        return f"rpo-review-{self.port}"

    @property
    def pass_(self) -> str:
        """What the cookie of somebody holds who knows the token."""
        return self._mac("cookie", self.token or "")

    @property
    def form_token(self) -> str:
        """Stands in every form; a page of another site cannot read it."""
        return self._mac("form", self.reviewer)

    def knows(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), (self.token or "").encode())

    def _mac(self, *parts: str) -> str:
        return hmac.new(self.key, "\0".join(parts).encode(), hashlib.sha256).hexdigest()

    def addressed(self, host: str) -> bool:
        """Whether a Host header names this server: a name that anybody can let point here does not."""
        plain = host.endswith("]") or ":" not in host  # a browser leaves HTTP's own port out
        name, port = (host, "80") if plain else host.rsplit(":", 1)
        if port != str(self.port):
            return False
        name = name.strip("[]").lower()
        if loopback(self.host):
            return name in ("127.0.0.1", "localhost", "::1", self.host.lower())
        own = {self.host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
        return name in own or _is_address(name)


def loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """The ASGI application around the pages."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        answer = self._refusal(scope) or self.app
        await answer(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, access = Headers(scope=scope), self.access
        host = headers.get("host", "")
        if not access.addressed(host):
            said = f"this is rpo review on port {access.port}, not the site that was asked for\n"
            return PlainTextResponse(said, status_code=421)
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("no such method\n", status_code=405)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
        strange = site not in ("same-origin", "none") or origin not in (None, f"http://{host}")
        if scope["method"] == "POST" and strange:
            return PlainTextResponse("this form was sent from another site\n", status_code=403)
        if access.token and scope["path"] not in OPEN and not self._passed(headers):
            return RedirectResponse(LOGIN, status_code=303)
        return None

    def _passed(self, headers: Headers) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.access.cookie)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.access.pass_.encode())
