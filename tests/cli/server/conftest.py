"""The pages of a reviewer's desk, asked by a client that follows no redirect."""

import re
from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient

from rpo_cli.cli.server.guard import Access
from rpo_cli.cli.server.site import Site
from rpo_cli.line.review.desk import open_desk
from tests.reviewed import make_run

ADDRESS = "http://127.0.0.1:8808"


class Browser(TestClient):
    """Knows how to press the buttons of our forms."""

    def current(self):
        """The page that / leads to."""
        return self.get("/", follow_redirects=True)

    def press(self, word, page=None):
        page = page or self.current()
        (action,) = re.findall(r'action="(/pair/[0-9a-f]+)"', page.text)
        return self.post(action, data={"csrf": csrf(page), "choice": word}, follow_redirects=False)

    def undo(self, page=None):
        page = page or self.current()
        (number,) = re.findall(r'name="number" value="(\d+)"', page.text)
        return self.post("/undo", data={"csrf": csrf(page), "number": number}, follow_redirects=False)


def csrf(page):
    return re.findall(r'name="csrf" value="([0-9a-f]+)"', page.text)[0]


@pytest.fixture
def sitting(tmp_path):
    """`with sitting(...) as browser`: a run, a desk and its pages; `browser.desk` is the desk."""

    @contextmanager
    def sit(count=6, *, reviewer="ann", host="127.0.0.1", token=None, run=None, **more):
        path = run or tmp_path / "run"
        if run is None:
            make_run(path, count, **more)
        with open_desk(path, reviewer, repeat=0) as desk:
            site = Site(desk, Access(host, 8808, desk.blind.key, reviewer, token), "run")
            browser = Browser(site.application(), base_url=ADDRESS, raise_server_exceptions=True)
            browser.desk, browser.path = desk, path
            yield browser

    return sit
