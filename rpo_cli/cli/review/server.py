"""Binds the port and serves the pages until Ctrl-C or SIGTERM."""

import socket
from collections.abc import Callable

import uvicorn

from rpo_cli.cli.review.guard import Access
from rpo_cli.cli.review.site import Site
from rpo_cli.errors import UsageError
from rpo_cli.line.review.desk import Desk

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
