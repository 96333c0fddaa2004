"""A stand-in of the hub on this machine: repositories in memory, read by ranges and written by commits."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

SHA = "5" * 40


class Hub(ThreadingHTTPServer):
    """Datasets: id → private, and files. `asked`: method, path and authorisation of every request.

    Attributes:
        tokens: those that may read private repositories.
        gated: ids whose files nobody may read yet.
        trouble: a function of a request's path that may answer it otherwise: a status code, or None.
        sent: bytes of files that went out.
        ranges: whether a part of a file can be asked for.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.repos, self.asked, self.refuse = {}, [], False
        self.tokens, self.gated, self.trouble = set(), set(), lambda path: None
        self.sent, self.commits, self.ranges = 0, {}, True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self):
        self.shutdown()
        self.server_close()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 2**16  # head and body in one packet

    def do_GET(self):
        self._answer(b"")

    do_HEAD = do_GET

    def do_POST(self):
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body):
        hub, place = self.server, urlsplit(self.path)
        hub.asked.append((self.command, self.path, self.headers.get("Authorization")))
        if hub.refuse:
            return self._refused(403, "You may not write here")
        if status := hub.trouble(place.path):
            return self._refused(status, "try again later")
        found = re.match(r"(?:/api)?/datasets/([^/]+/[^/]+)/?(.*)", place.path)
        if not found:
            return self._repositories(body)
        repo, rest = found[1], unquote(found[2])
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        there = hub.repos.get(repo)
        if there is None or (there["private"] and hub.tokens and token not in hub.tokens):
            return self._refused(404, "Repository not found", "RepoNotFound")
        if rest.startswith(("tree/", "resolve/", "revision/")):
            return self._read(repo, *rest.split("/", 1), parse_qs(place.query))
        return self._written(repo, rest, body)

    def _read(self, repo, what, rest, query):
        """The newest commit is `main`; others of `commits` are read by their name."""
        hub = self.server
        revision, _, path = rest.partition("/")
        commits = {"main": self._sha(repo), self._sha(repo): self._sha(repo)} | hub.commits.get(repo, {})
        if revision not in commits:
            return self._refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        files = hub.repos[repo]["files"]
        if what == "revision":
            return self._send(200, self._info(repo))
        if what == "tree":
            names = [name for name in sorted(files) if name.startswith(path)]
            listing = [{"type": "file", "path": n, "size": len(files[n]), "oid": SHA} for n in names]
            return self._send(200, listing)
        if repo in hub.gated:
            return self._refused(403, f"Access to dataset {repo} is restricted", "GatedRepo")
        if path not in files:
            return self._refused(404, "Entry not found", "EntryNotFound")
        return self._file(files[path])

    def _file(self, data):
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        found = found if self.server.ranges else None
        part = data[int(found[1]) : int(found[2]) + 1 if found[2] else None] if found else data
        self.send_response(206 if found else 200)
        self.send_header("Content-Length", str(len(part)))
        if found:
            start = int(found[1])
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "GET":
            self.server.sent += len(part)
            self.wfile.write(part)

    def _sha(self, repo):
        return self.server.repos[repo].get("sha", "0" * 40)

    def _info(self, repo):
        there = self.server.repos[repo]
        siblings = [{"rfilename": name} for name in there["files"]]
        return {"id": repo, "private": there["private"], "siblings": siblings, "sha": self._sha(repo)}

    def _repositories(self, body):
        hub = self.server
        if self.path == "/api/repos/create":
            said = json.loads(body)
            private = said.get("private") or said.get("visibility") == "private"  # older and newer clients
            repo = f"{said['organization']}/{said['name']}" if said.get("organization") else said["name"]
            hub.repos[repo] = {"private": private, "files": {}} | hub.repos.get(repo, {})
            return self._send(200, {"url": f"{hub.url}/datasets/{repo}", "id": repo})
        return self._send(200, {"errors": [], "warnings": []})  # /api/validate-yaml

    def _written(self, repo, rest, body):
        if rest.startswith("preupload/"):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return self._send(200, {"files": files})
        if rest.startswith("commit/"):
            return self._commit(self.server.repos[repo], body)
        return self._send(200, self._info(repo))

    def _commit(self, repo, body):
        for line in body.decode().splitlines():
            said = json.loads(line)
            if said["key"] == "file":
                repo["files"][said["value"]["path"]] = base64.b64decode(said["value"]["content"])
            if said["key"] == "deletedFile":
                repo["files"].pop(said["value"]["path"])
        url = f"{self.server.url}/datasets/me/pairs/commit/{'abc' * 13}d"
        self._send(200, {"success": True, "commitUrl": url, "commitOid": "abc" * 13 + "d"})

    def _refused(self, code, said, kind=None):
        headers = {"X-Error-Message": said} | ({"X-Error-Code": kind} if kind else {})
        self._send(code, {"error": said}, headers)

    def _send(self, code, said, headers=None):
        data = json.dumps(said).encode()
        self.send_response(code)
        sent = {"Content-Type": "application/json", "Content-Length": len(data), **(headers or {})}
        for name, value in sent.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *arguments): ...
