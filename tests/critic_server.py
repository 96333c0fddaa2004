"""A real HTTP server that answers like vLLM: the same words to the same question, and faults when told to.

In a test: `with running() as server`. As a process: `python tests/critic_server.py PORT_FILE LOG [KEY]`.
"""

import hashlib
import json
import os
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = "stand-in"
SEEN = "A plain picture of one colour. The prompt asks for a shape, which is not there."
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")


def words(body):
    """Everything but the pictures of a request, as one text."""
    parts = [m["content"] for m in body["messages"]]
    texts = [p if isinstance(p, str) else " ".join(x.get("text", "") for x in p) for p in parts]
    return "\n".join(texts)


def schema_of(body):
    held = body.get("response_format", {}).get("json_schema", {}).get("schema")
    return held or body.get("structured_outputs", {}).get("json")


def answer(body, obeys=("response_format", "structured_outputs")):
    """The deterministic reply to a request, held to its schema if the server obeys that form."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
    schema = schema_of(body) if any(form in body for form in obeys) else None
    if schema is None:
        return f"{SEEN} Number {digest[0]}."
    names = schema["properties"]
    if "word" in names:
        return json.dumps({"word": names["word"]["enum"][0]})
    if "better" in names:
        return json.dumps({"reason": "it is", "better": names["better"]["enum"][digest[0] % 3]})
    said = {"flaws": [{"aspect": "count", "detail": "there is no shape"}]}
    said["instructions"] = [f"add a {COLOURS[digest[0] % 6]} star"]
    return json.dumps({"critique": SEEN, **said} if "critique" in names else said)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    block_on_close = False

    def __init__(
        self, port=0, key="", log=None, obeys=("response_format", "structured_outputs"), delay=0.0
    ):
        super().__init__(("127.0.0.1", port), Handler)
        self.key, self.log, self.obeys, self.delay = key, log, obeys, delay
        self.faults, self.always = [], None  # of the next requests with a picture; of all of them
        self.asked, self.auth, self.most, self.now = [], [], 0, 0
        self.models, self.uuids = [MODEL], True
        self.listed, self.probabilities = None, True  # another answer to /models; whether logprobs are told
        self.guard = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, address):
        """A client that went away is what is tested here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *parts): ...

    def do_GET(self):
        self.server.auth.append(self.headers.get("Authorization"))
        if not self.allowed():
            return
        if self.path == "/v1/models":
            self.send(
                *(self.server.listed or (200, {"data": [{"id": name} for name in self.server.models]}))
            )
        else:
            self.send(200, {})

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return
        with server.guard:
            server.asked.append(body)
            server.now += 1
            server.most = max(server.most, server.now)
            shown = any("image_url" in json.dumps(m) for m in body["messages"])
            fault = (server.faults.pop(0) if server.faults else server.always) if shown else None
            if server.log:
                line = {"at": time.time(), "body": hashlib.sha256(json.dumps(body).encode()).hexdigest()}
                server.log.write(json.dumps(line) + "\n")
                server.log.flush()
        try:
            time.sleep(server.delay if shown else 0)
            self.respond(body, fault)
        finally:
            with server.guard:
                server.now -= 1

    def allowed(self):
        guarded = self.path.startswith("/v1") and self.server.key  # as in vLLM
        if guarded and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            self.send(401, {"error": "Unauthorized"})
            return False
        return True

    def respond(self, body, fault):
        server = self.server
        if not server.uuids and "uuid" in json.dumps(body):
            self.send(400, {"error": {"message": "unknown field 'uuid'"}})
        elif fault == "drop":
            self.connection.close()
        elif fault == "middle":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.wfile.flush()
            self.connection.close()
        elif fault == "slow":
            self.drip(b'{"choices": [{"message": {"content": "' + b"a" * 10_000)
        elif fault == "slow headers":
            self.drip(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10_000, head=False)
        elif fault == "silent":
            time.sleep(30)
        elif fault == "big":
            self.send(200, reply(body, "a" * 1_200_000))
        elif fault == "html":
            self.send_bytes(200, b"<html>gateway</html>")
        elif fault == "deep":
            self.send_bytes(200, b"[" * 100_000)
        elif fault == "other":
            self.send(200, {"hello": [1, 2]})
        elif fault == "numbers":
            self.send(200, {"choices": [{"message": {"content": 7}}]})
        elif isinstance(fault, tuple):  # (status, headers)
            self.send(fault[0], {"error": {"message": f"told to say {fault[0]}"}}, fault[1])
        elif isinstance(fault, dict):  # {"text": ..., "finish": ...} in place of the reply
            self.send(200, reply(body, fault["text"], fault.get("finish", "stop")))
        elif "logprobs" in body and server.probabilities:
            self.send(200, probabilities(body))
        else:
            self.send(200, reply(body, answer(body, server.obeys)))

    def drip(self, data, head=True):
        if head:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
        for byte in data:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(0.02)

    def send(self, status, value, headers=None):
        self.send_bytes(status, json.dumps(value).encode(), headers)

    def send_bytes(self, status, data, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def reply(body, text, finish="stop"):
    message = {"role": "assistant", "content": text}
    return {"model": body["model"], "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def probabilities(body):
    """Yes with .6 or .2 by the prompt, no with the rest, in several spellings."""
    import math

    yes = 0.6 if "red" in words(body) else 0.2
    told = {"Yes": yes / 2, " yes": yes / 2, "\u0120no": 1 - yes - 0.1, "maybe": 0.1}
    likely = [{"token": token, "logprob": math.log(p)} for token, p in told.items()]
    found = reply(body, "Yes")
    found["choices"][0]["logprobs"] = {"content": [{"token": "Yes", "top_logprobs": likely}]}
    return found


@contextmanager
def running(**how):
    server = Server(**how)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def main():
    """Serve until killed; the port stands in a file, each request in a log."""
    place, log, *key = sys.argv[1:]
    old = int(Path(place).read_text()) if os.path.exists(place) else 0  # started again: the same address
    with open(log, "a") as out:
        server = Server(port=old, key=key[0] if key else "", log=out, delay=0.03)
        Path(f"{place}.new").write_text(str(server.server_address[1]))
        os.replace(f"{place}.new", place)
        server.serve_forever(0.02)


if __name__ == "__main__":
    main()
