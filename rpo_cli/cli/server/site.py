"""The pages of `rpo review`, served until Ctrl-C or SIGTERM: GET shows, POST makes a verdict durable."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qs

import uvicorn
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from rpo_cli.cli.server.guard import LOGIN, Access, Guard
from rpo_cli.errors import RpoError, StorageError, UsageError
from rpo_cli.line.review.desk import Desk, Word
from rpo_cli.line.review.queue import Showing
from rpo_cli.visuals.html import clean

BACKLOG = 64


def listening(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes any that is free.

    Raises:
        UsageError: the address is not of this machine, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BACKLOG)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}",
            "give another --port, or none to take one that is free",
        ) from error
    return found


def serve(
    desk: Desk, bound: socket.socket, host: str, token: str | None, title: str, ready: Callable[[str], None]
) -> None:
    """Serve a desk on a bound socket; `ready` is told the address. Ctrl-C is the ordinary end."""
    port = bound.getsockname()[1]
    access = Access(host, port, desk.blind.key, desk.reviewer, token)
    site = Site(desk, access, title)
    config = uvicorn.Config(
        site.application(),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=3,
    )
    ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
    uvicorn.Server(config).run(sockets=[bound])


WORDS = ("left", "right", "tie", "reject", "skip")
LARGEST_FORM = 4096  # bytes
SMALL = 128  # pixels
NOTICES = {
    "already": "This pair was judged already, perhaps in another window: that verdict stands.",
    "removed": "The verdict is saved. Its pair has left the run; it counts again if the pair returns.",
    "nothing": "Nothing was taken back: there is nothing to undo, or another window has judged since.",
    "undone": "Taken back.",
    "undone-gone": "Taken back. Its pair has left the run meanwhile.",
}


@dataclass(frozen=True)
class Site:
    """The pages of one reviewer's desk."""

    desk: Desk
    access: Access
    title: str

    def page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        common = {"title": self.title, "csrf": self.access.form_token, "reviewer": self.desk.reviewer}
        text = _pages().get_template(template).render(**common, **values)
        return HTMLResponse(text, status_code=status)

    def problem(self, message: str, hint: str, status: int) -> HTMLResponse:
        return self.page("problem.html", message=message, hint=hint, status=status)

    def desk_page(self, showing: Showing, *, status: int = 200, **lines: str) -> HTMLResponse:
        """One pair, with what there is to tell above it."""
        desk = self.desk
        found = {place: f"/picture/{desk.pictures.token(showing, place)}" for place in ("left", "right")}
        values = {
            "showing": showing.token,
            "prompt": showing.prompt,
            "pictures": found if desk.pictures.whole(showing) else {},
            "small": self._small(showing),
            "judged": desk.answer(showing) is not None,
            "gone": desk.gone(showing),
        }
        lines = {"notice": "", "failed": "", "view": "", **lines}
        return self.page("pair.html", status=status, **values, **self._state(), **lines)

    def _small(self, showing: Showing) -> bool:
        """Whether both pictures are so small that they are shown with sharp pixels."""
        tokens = (self.desk.pictures.token(showing, place) for place in ("left", "right"))
        # bytes 16 to 24 of a PNG are its width and height
        sizes = [(self.desk.pictures.get(token) or b"")[16:24] for token in tokens]
        return all(max(size[:4], size[4:]) < SMALL.to_bytes(4) for size in sizes)

    def _state(self) -> dict[str, Any]:
        desk = self.desk
        return {"progress": desk.progress(), "number": desk.number, "undoable": desk.can_undo()}

    # --- pages -----------------------------------------------------------------------------------------

    def start(self, request: Request) -> Response:
        """On to the next pair, or the end."""
        showing, notice = self.desk.next(), request.query_params.get("notice", "")
        if showing is None:
            return self.page("done.html", notice=NOTICES.get(notice, ""), **self._state())
        return _to(f"/pair/{showing.token}", notice)

    def pair(self, request: Request) -> Response:
        showing = self._showing(request)
        view = request.query_params.get("view", "")
        return self.desk_page(
            showing,
            notice=NOTICES.get(request.query_params.get("notice", ""), ""),
            view=view if view in ("zoom", "blink") else "",
        )

    def verdict(self, request: Request, form: dict[str, str]) -> Response:
        showing, word = self._showing(request), form.get("choice", "")
        if word not in WORDS:
            raise HTTPException(400, "no verdict was chosen")
        try:
            outcome = self.desk.record(showing, cast(Word, word))
        except StorageError as error:
            failed = f"This verdict was NOT saved: {error.message}. {error.hint}; then press again."
            return self.desk_page(showing, status=507, failed=failed)
        following = self.desk.next()
        notice = outcome if outcome in NOTICES else ""
        answer = _to(f"/pair/{following.token}" if following else "/", notice)
        if following is not None:  # its pictures are read while the browser follows
            answer.background = BackgroundTask(self.desk.pictures.whole, following)
        return answer

    def undo(self, request: Request, form: dict[str, str]) -> Response:
        number = form.get("number", "")
        outcome, showing = self.desk.undo(int(number) if number.isdecimal() and len(number) < 10 else -1)
        if outcome == "undone":
            return _to(f"/pair/{showing.token}", "undone") if showing else _to("/", "undone-gone")
        return _to("/", outcome)

    def picture(self, request: Request) -> Response:
        data = self.desk.pictures.get(request.path_params["token"])
        if data is None:
            raise HTTPException(404, "this picture is not in the run")
        return Response(data, media_type="image/png")

    def login(self, request: Request) -> Response:
        return self.page("login.html", failed="")

    async def enter(self, request: Request) -> Response:
        form = await _form(request)
        if not self.access.knows(form.get("token", "")):
            await asyncio.sleep(0.5)  # guessing takes its time
            return self.page("login.html", status=403, failed="This is not the token.")
        answer = _to("/")
        answer.set_cookie(self.access.cookie, self.access.pass_, httponly=True, samesite="strict")
        return answer

    def _showing(self, request: Request) -> Showing:
        showing = self.desk.find(request.path_params["token"])
        if showing is None:
            raise HTTPException(410, "this pair is not among those to judge any more; nothing was saved")
        return showing

    # --- application -----------------------------------------------------------------------------------

    def application(self) -> Guard:
        routes = [
            Route("/", self.start),
            Route("/pair/{token}", self.pair),
            Route("/pair/{token}", self._posted(self.verdict), methods=["POST"]),
            Route("/undo", self._posted(self.undo), methods=["POST"]),
            Route("/picture/{token}", self.picture),
            Route("/favicon.ico", lambda request: Response(status_code=204)),
            Route("/review.css", _file("review.css", "text/css")),
            Route("/review.js", _file("review.js", "text/javascript")),
        ]
        if self.access.token:
            routes += [Route(LOGIN, self.login), Route(LOGIN, self.enter, methods=["POST"])]
        handlers: dict[Any, Callable[..., Any]] = {HTTPException: self._refused, RpoError: self._failed}
        return Guard(Starlette(routes=routes, exception_handlers=handlers), self.access)

    def _posted(
        self, action: Callable[[Request, dict[str, str]], Response]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A form of ours, handed to `action` on a thread: it writes to the disk."""

        async def answer(request: Request) -> Response:
            form = await _form(request)
            if form.get("csrf") != self.access.form_token:
                raise HTTPException(403, "this page is older than the run's key; nothing was saved")
            return await run_in_threadpool(action, request, form)

        return answer

    def _refused(self, request: Request, error: HTTPException) -> Response:
        return self.problem(error.detail, "go on with the next pair", error.status_code)

    def _failed(self, request: Request, error: RpoError) -> Response:
        return self.problem(error.message, error.hint, 507 if isinstance(error, StorageError) else 500)


def _to(path: str, notice: str = "") -> RedirectResponse:
    """303: the browser asks anew with GET, so that a reload repeats no verdict."""
    return RedirectResponse(f"{path}?notice={notice}" if notice in NOTICES else path, status_code=303)


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM:
            raise HTTPException(413, "this form is too long")
    try:
        fields = parse_qs(body.decode(), errors="strict")
    except UnicodeDecodeError as error:
        raise HTTPException(400, "this form is not UTF-8 text; nothing was saved") from error
    return {name: values[-1] for name, values in fields.items()}


def _file(name: str, kind: str) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        environment = _pages()
        assert environment.loader is not None
        return Response(environment.loader.get_source(environment, name)[0], media_type=kind)

    return answer


_ENVIRONMENT: list[Environment] = []


def _pages() -> Environment:
    """Every value is escaped, and cleaned of what cannot be seen, at the one place where it is printed."""
    if not _ENVIRONMENT:
        _ENVIRONMENT.append(
            Environment(
                loader=PackageLoader("rpo_cli.cli.server"),
                autoescape=True,
                undefined=StrictUndefined,
                finalize=_printed,
                trim_blocks=True,
                lstrip_blocks=True,
            )
        )
    return _ENVIRONMENT[0]


def _printed(value: Any) -> Any:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
