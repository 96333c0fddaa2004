"""The pages of `rpo review` without a script: the flow of verdicts, and what a page must never tell."""

import errno
import re
from contextlib import suppress

import pytest

from rpo_cli.pictures import decode
from rpo_cli.store import open_store
from tests.reviewed import make_run, pair_of, verdicts
from tests.test_files import injected, tiny_disk

EVIL = "<script>alert(1)</script> \" onload=x ' {{7*7}} \x1b[31m \u202eevil \x00" + "long" * 3000


def test_every_verdict_is_on_disk_before_the_next_page(sitting):
    with sitting(6) as browser:
        for count in range(1, 7):
            answer = browser.press("left")
            assert answer.status_code == 303
            assert len(verdicts(browser.desk.store)) == count
        assert "All judged" in browser.current().text


def test_undo_shows_the_pair_again(sitting):
    with sitting() as browser:
        first = browser.current()
        browser.press("tie")
        answer = browser.undo()

        assert answer.headers["location"] == f"{first.url.path}?notice=undone"
        assert browser.current().url.path == first.url.path
        assert [row.choice for row in verdicts(browser.desk.store)] == ["tie", "undo"]


def test_nothing_in_a_page_its_addresses_or_headers_tells_which_is_which(sitting):
    """Ids, hashes, kinds, instruction and labels stand nowhere; headers are equal but for size."""
    with sitting() as browser:
        page = browser.current()
        addresses = re.findall(r'src="(/picture/[^"]+)"', page.text)
        answers = [browser.get(address) for address in addresses]
        showing = browser.desk.next()
        secrets = {
            *(showing.pair_id, showing.a_id, showing.b_id, showing.a_sha256, showing.b_sha256),
            *("edit", "original", "instruction", "make it white", "winner", "margin"),
        }
        told = page.text.lower() + str(page.headers) + str([answer.headers for answer in answers])

        assert [secret for secret in secrets if secret in told] == []
        assert len(set(addresses)) == 2
        heads = [
            {k: v for k, v in a.headers.items() if k not in ("content-length", "date")} for a in answers
        ]
        assert heads[0] == heads[1]
        assert [decode(answer.content).info for answer in answers] == [{}, {}]


def test_hostile_text_is_text(sitting):
    with sitting(2, prompt=EVIL) as browser:
        page = browser.current()

        assert "<script>alert" not in page.text
        assert "&lt;script&gt;alert(1)" in page.text
        assert not set("\x1b\u202e\x00") & set(page.text)
        assert re.findall(r"<[^>]*onload", page.text) == []


def test_pages_may_load_nothing_foreign_and_are_not_kept(sitting):
    with sitting() as browser:
        for path in ("/", browser.current().url.path, "/review.js", "/picture/none", "/pair/none"):
            headers = browser.get(path).headers
            assert headers["content-security-policy"].startswith("default-src 'none';")
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "host",
    ["evil.example:8808", "127.0.0.1.evil.example:8808", "127.0.0.1:80", "127.0.0.1", "", "10.0.0.7:8808"],
)
def test_another_name_for_this_machine_is_refused(sitting, host):
    """DNS rebinding: the browser believes to talk to evil.example."""
    with sitting() as browser:
        assert browser.get("/", headers={"host": host}).status_code == 421
        assert browser.get("/", headers={"host": "localhost:8808"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "form", "status"),
    [
        ({"origin": "http://evil.example"}, {}, 403),
        ({"origin": "null"}, {}, 403),
        ({"origin": "http://127.0.0.1:9999"}, {}, 403),
        ({"sec-fetch-site": "cross-site"}, {}, 403),
        ({}, {"csrf": "0" * 64}, 403),
        ({}, {"csrf": ""}, 403),
        ({}, {"choice": "a"}, 400),
        ({}, {"choice": "undo"}, 400),
        ({}, {"choice": "x" * 5000}, 413),
    ],
)
def test_forms_of_other_sites_and_strange_forms_save_nothing(sitting, headers, form, status):
    with sitting() as browser:
        page = browser.current()
        (token,) = re.findall(r'name="csrf" value="([0-9a-f]{64})"', page.text.replace("\n", " "))[:1]
        data = {"csrf": token, "choice": "left", **form}
        answer = browser.post(page.url.path, data=data, headers=headers, follow_redirects=False)

        assert answer.status_code == status
        assert verdicts(browser.desk.store) == []


def test_get_never_changes_anything(sitting):
    with sitting() as browser:
        page = browser.current()
        browser.get(page.url.path, params={"choice": "left", "csrf": browser.desk.blind.token("x")})

        assert browser.get("/undo").status_code == 405
        assert browser.request("DELETE", page.url.path).status_code == 405
        assert verdicts(browser.desk.store) == []


def test_with_a_token_nothing_is_shown_without_it(sitting):
    token = "a token of some length"
    with sitting(host="0.0.0.0", token=token) as browser:
        page = browser.desk.next().token
        picture = browser.desk.pictures.token(browser.desk.next(), "left")
        for path in ("/", f"/pair/{page}", f"/picture/{picture}"):
            answer = browser.get(path, follow_redirects=False)
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert browser.post("/login", data={"token": "wrong"}).status_code == 403
        answer = browser.post("/login", data={"token": token}, follow_redirects=False)
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert token not in answer.headers["set-cookie"]
        assert browser.press("left").status_code == 303


def test_a_full_disk_is_told_on_the_page_and_the_same_button_works_afterwards(
    sitting, tmp_path, monkeypatch
):
    """On a real disk of 1 MB where one can be mounted; with an injected error elsewhere."""
    with tiny_disk(tmp_path / "disk") as disk:
        run = (disk or tmp_path) / "run"
        make_run(run, 4)
        with sitting(run=run) as browser, monkeypatch.context() as patch:
            page, ballast = browser.current(), run / "ballast"
            if disk:
                fill(ballast)
            else:
                injected(patch, errno.ENOSPC, "os.fsync")
            answer = browser.press("right", page)

            assert answer.status_code == 507
            assert "NOT saved" in answer.text
            assert "the disk is full" in answer.text
            assert browser.desk.progress().judged == 0
            patch.undo()
            ballast.unlink(missing_ok=True)
            assert browser.press("right", answer).status_code == 303
            assert [row.choice for row in verdicts(open_store(run))] == [
                browser.desk.answer(browser.desk.find(page.url.path.rpartition("/")[2])).choice
            ]


def fill(ballast):
    """Write until there is no room."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def test_a_second_window_is_told_that_the_pair_was_judged(sitting):
    with sitting() as browser:
        page = browser.current()
        browser.press("left", page)
        answer = browser.press("right", page)

        assert "notice=already" in answer.headers["location"]
        assert "judged already" in browser.get(answer.headers["location"]).text
        assert len(verdicts(browser.desk.store)) == 1


def test_a_pair_that_has_left_the_run_keeps_its_verdict_and_the_page_says_so(sitting):
    with sitting(4) as browser:
        page, showing = browser.current(), browser.desk.next()
        kept = [row[2] for row in map(pair_of, range(4)) if row[2].pair_id != showing.pair_id]
        browser.desk.store.commit("pairs", kept, group="another0")
        browser.desk.store.prune("pairs", {"another0"})
        answer = browser.press("left", page)

        assert "has left the run" in browser.get(answer.headers["location"]).text
        assert len(verdicts(browser.desk.store)) == 1


def test_a_page_of_another_run_is_refused_with_words(sitting):
    with sitting() as browser:
        page = browser.current()
        answer = browser.press("left", _with_action(page, "/pair/" + "0" * 32))

        assert answer.status_code == 410
        assert "nothing was saved" in answer.text


def _with_action(page, action):
    class Page:
        text = re.sub(r'action="/pair/[0-9a-f]+"', f'action="{action}"', page.text)

    return Page


def test_a_pair_without_pictures_cannot_be_judged_only_skipped(sitting):
    with sitting(2) as browser:
        store = open_store(browser.path)
        for part in store.parts("edits"):
            store.files.delete(part.name)
        page = browser.current()

        assert "gone from the run" in page.text
        assert page.text.count(" disabled>") == 5  # four verdicts and undo
        assert browser.press("skip", page).status_code == 303


def test_pages_that_are_open_when_the_server_ends_still_work_after_it_starts_again(sitting):
    """The key is the run's, so a verdict on an old page is no lost verdict."""
    with sitting() as browser:
        page, run = browser.current(), browser.path
    with sitting(run=run) as browser:
        assert browser.press("left", page).status_code == 303
        assert len(verdicts(browser.desk.store)) == 1


def test_the_page_works_without_a_script(sitting):
    """Zoom and blink are links, verdicts and undo are forms."""
    with sitting() as browser:
        page = browser.current()
        for view in ("zoom", "blink"):
            assert f'id="pictures" class="{view}"' in browser.get(page.url.path, params={"view": view}).text
        assert 'id="pictures" class=""' in browser.get(page.url.path, params={"view": "<x>"}).text


def test_a_form_that_is_no_text_saves_nothing_and_says_so(sitting):
    with sitting() as browser:
        page = browser.current()
        for body in (b"choice=tie&csrf=\xff", b"choice=tie&csrf=%ff"):
            answer = browser.post(page.url.path, content=body)
            assert answer.status_code == 400
            assert "not UTF-8" in answer.text
        assert verdicts(browser.desk.store) == []
