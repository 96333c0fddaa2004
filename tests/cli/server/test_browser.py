"""The review pages in a real Chromium: keys, screens, and a hundred verdicts in a row."""

import socket
import threading
from contextlib import contextmanager

import pytest
import uvicorn

from rpo_cli.cli.server.guard import Access
from rpo_cli.cli.server.site import Site
from rpo_cli.line.review.desk import open_desk
from tests.browsing import chromium, overflow, page_of, unloaded
from tests.reviewed import make_run, verdicts

pytestmark = pytest.mark.slow
LONG = "<b>bold</b> " + "averyveryverylongwordwithoutanyspace" * 20 + " \u05e9\u05dc\u05d5\u05dd \u202e"


def until(page, expression):
    """Wait, a minute at most, until it is true; from outside, as the page's policy forbids eval."""
    for _ in range(1200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not true in a minute: {expression}")


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@contextmanager
def served(run):
    """The pages of a desk on a free port, from a thread: (address, desk)."""
    with open_desk(run, "ann", repeat=0) as desk, socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        site = Site(desk, Access("127.0.0.1", port, desk.blind.key, "ann"), "run")
        config = uvicorn.Config(site.application(), lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/", desk
        finally:
            server.should_exit = True
            thread.join(timeout=20)


def press(page, key):
    """Press a key that leads to another page, once its pictures are there."""
    until(page, "[...document.images].every((image) => image.complete)")
    with page.expect_navigation():
        page.keyboard.press(key)


def test_a_hundred_verdicts_in_a_row_by_keys_alone(tmp_path, browser):
    store = make_run(tmp_path / "run", 100)
    with served(tmp_path / "run") as (address, _desk), page_of(browser) as page:
        page.goto(address)
        for number in range(100):
            press(page, ("ArrowLeft", "ArrowRight", "ArrowDown", "x")[number % 4])
        assert page.inner_text("h1") == "All judged"
        assert page.complaints == []
    rows = verdicts(store)
    assert [row.number for row in rows] == list(range(100))
    assert len({row.pair_id for row in rows}) == 100
    assert [row.choice for row in rows[2::4]] == ["tie"] * 25
    assert [row.choice for row in rows[3::4]] == ["reject"] * 25
    assert all(row.choice == row.left for row in rows[0::4])
    assert all(row.choice != row.left for row in rows[1::4])


def test_every_key_does_what_the_page_says(tmp_path, browser):
    store = make_run(tmp_path / "run", 8)
    with served(tmp_path / "run") as (address, _desk), page_of(browser) as page:
        page.goto(address)
        first = page.url
        for key in ("h", "l", "t", "s"):
            press(page, key)
        press(page, "u")
        press(page, "Backspace")
        assert [row.choice for row in verdicts(store)][2:] == ["tie", "skip", "undo", "undo"]
        page.keyboard.press("?")
        assert page.locator("#help").get_attribute("open") is not None
        page.keyboard.press("Control+s")  # the browser's own: save the page
        assert len(verdicts(store)) == 6
        press(page, "1")
        assert page.url != first
        assert page.complaints == []


def test_zoom_moves_both_pictures_together_and_blink_lays_them_on_each_other(tmp_path, browser):
    make_run(tmp_path / "run", 2)
    with served(tmp_path / "run") as (address, _desk), page_of(browser) as page:
        page.goto(address)
        boxes = "[...document.querySelectorAll('.frame')].map((frame) => frame.getBoundingClientRect().x)"
        scrolled = (
            "[...document.querySelectorAll('.frame')].map((frame) => [frame.scrollLeft, frame.scrollTop])"
        )
        page.keyboard.press("z")
        before = page.evaluate(scrolled)
        page.locator(".frame").nth(1).evaluate("(frame) => frame.scrollBy(50, 40)")
        until(page, f"({scrolled})[0][0] === {before[0][0]} + 50")
        left, right = page.evaluate(scrolled)
        assert left == right == [before[0][0] + 50, before[0][1] + 40]
        page.keyboard.press("Shift+ArrowRight")
        until(page, f"({scrolled})[1][0] > {right[0]}")
        page.keyboard.press("z")
        page.keyboard.press("b")
        assert len(set(page.evaluate(boxes))) == 1
        top = "getComputedStyle(document.querySelector('figure.right')).opacity"
        page.keyboard.press(" ")
        seen = [page.evaluate(top)]
        page.keyboard.press(" ")
        assert sorted([*seen, page.evaluate(top)]) == ["0", "1"]
        page.keyboard.press("b")
        assert len(set(page.evaluate(boxes))) == 2
        assert page.complaints == []


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_screen_fits_and_loads(tmp_path, browser, size, scheme):
    """Hostile and very long words too: nothing scrolls sideways, the console is silent, pictures load."""
    make_run(tmp_path / "run", 1, prompt=LONG)
    with served(tmp_path / "run") as (address, _desk), page_of(browser, size, scheme) as page:
        for view in ("", "?view=zoom", "?view=blink", "?notice=already"):
            page.goto(address)
            page.goto(page.url + view)
            assert (overflow(page), unloaded(page)) == (0, [])
        assert "<b>bold</b>" in page.inner_text("h1")
        press(page, "ArrowLeft")
        assert overflow(page) == 0
        assert page.complaints == []


def test_without_a_script_buttons_and_links_do_the_same(tmp_path, browser):
    store = make_run(tmp_path / "run", 3)
    with (
        served(tmp_path / "run") as (address, _desk),
        page_of(browser, java_script_enabled=False) as page,
    ):
        page.goto(address)
        page.click("text=Zoom both")
        assert page.locator("#pictures.zoom").count() == 1
        page.click("text=Right is better")
        page.click("text=Undo")
        page.click("text=Tie")
        assert [row.choice for row in verdicts(store)][1:] == ["undo", "tie"]


def test_a_browser_that_is_closed_and_opened_again_goes_on(tmp_path, browser):
    make_run(tmp_path / "run", 3)
    with served(tmp_path / "run") as (address, _desk):
        with page_of(browser) as page:
            page.goto(address)
            press(page, "ArrowLeft")
            second = page.url
        with page_of(browser) as page:
            page.goto(address)
            assert page.url == second
