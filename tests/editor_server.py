"""A real HTTP server of OpenAI's images API: it inverts the colours, and errs when told to."""

import base64
import io
import json
import threading
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image, ImageOps


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, key="", unknown=(), scale=1):
        super().__init__(("127.0.0.1", 0), Handler)
        self.key, self.unknown, self.scale = key, unknown, scale
        self.faults, self.asked, self.guard = [], [], threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


def parts(handler):
    """Name → bytes of a multipart body, read by the standard library's own parser."""
    body = handler.rfile.read(int(handler.headers["Content-Length"]))
    head = f"Content-Type: {handler.headers['Content-Type']}\r\n\r\n".encode()
    found = message_from_bytes(head + body).get_payload()
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in found
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *parts): ...

    def do_POST(self):
        server, found = self.server, parts(self)
        if server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
            return self.send(401, {"error": {"message": "wrong key"}})
        if self.path != "/v1/images/edits":
            return self.send(404, {"error": {"message": "no such path"}})
        with server.guard:
            server.asked.append({name: value for name, value in found.items() if name != "image"})
            fault = server.faults.pop(0) if server.faults else None
        for name in server.unknown:
            if name in found:
                return self.send(400, {"error": {"message": f"Unknown parameter: '{name}'."}})
        if fault == "drop":
            self.close_connection = True
            return self.connection.close()
        if fault is not None:
            status, answer = fault
            return self.send(status, answer)
        picture = ImageOps.invert(Image.open(io.BytesIO(found["image"])).convert("RGB"))
        out = io.BytesIO()
        picture.resize((picture.width * server.scale, picture.height * server.scale)).save(out, "PNG")
        self.send(200, {"data": [{"b64_json": base64.b64encode(out.getvalue()).decode()}]})

    def send(self, status, answer):
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def running(**options):
    server = Server(**options)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
