"""What real critics were reported to answer: both turns by name, and an OpenAI-compatible server of them.

A prompt `case NAME` chooses; `running()` serves them on loopback.
"""

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OK = {
    "flaws": [{"aspect": "colour", "detail": "the circle is blue"}],
    "instructions": ["make the circle red"],
}
T1 = "The picture shows a blue circle. The prompt asks for a red one."
J = json.dumps(OK)
EMPTY = json.dumps({"flaws": [], "instructions": []})


def done(*instructions, flaws=()):
    return json.dumps({"flaws": list(flaws), "instructions": list(instructions)}, ensure_ascii=False)


# name → turn 1, turn 2
CRITIQUES = {
    "plain": (T1, J),
    "think": (
        f"<think>The circle is blue, hmm, wait.</think>\n\n{T1}",
        f"<think>I need JSON.</think>\n{J}",
    ),
    "thinkone": (f"<think>Hmm, wait, maybe it is purple? No.</think>\n\n{T1}", J),
    "answer": (f"<answer>{T1}</answer>", J),
    "md": ("### Critique\n\n**Shape**: a circle.\n\n---\n\n**Colour**: blue, where red was asked for.", J),
    "thinkopen": (
        f"Let me look at it. The circle is blue.</think>\n{T1}",
        f"I need JSON.\n</think>\n\n{J}",
    ),
    "fence": (T1, f"```json\n{json.dumps(OK, indent=2)}\n```"),
    "prose": (T1, f"Here is the JSON you asked for:\n\n{J}\n\nLet me know if you need anything else!"),
    "comma": (T1, J.replace("}]", "},]").replace('"]', '",]')),
    "extra": (T1, json.dumps({**OK, "confidence": 0.9})),
    "wrapped": (T1, f"[{J}]"),
    "string": (T1, json.dumps({"flaws": ["the circle is blue"], "instructions": "make the circle red"})),
    "crlf": (T1.replace(". ", ".\r\n"), J),
    "table": (
        f"| what | seen |\n|--------------------|--------------------|\n| circle | blue |\n\n{T1}",
        J,
    ),
    "sorrysign": (
        "The sign reads I'm sorry as the prompt asks, but the circle is blue where red was asked.",
        J,
    ),
    "unable": (
        "The hat covers the face, so that a viewer is unable to see the eyes; they should be green.",
        J,
    ),
    "cant": ("The letters read WE CANT but the prompt asks for I CAN'T STOP; the circle is blue.", J),
    "zh": ("图片中是一个蓝色的圆，而提示要求红色的圆。", J),
    "box": (T1, f"<|begin_of_box|>{J}<|end_of_box|>"),
}
REFUSALS = {
    "refuse": ("I'm sorry, but I can't help with this image.", J),
    "refusezh": ("抱歉，我无法分析这张图片。", EMPTY),
    "refusede": ("Es tut mir leid, aber ich kann dieses Bild nicht beurteilen.", EMPTY),
    "refusefr": ("Je suis désolé, mais je ne peux pas analyser cette image.", EMPTY),
    "refusesoft": ("I must decline to comment on this picture, as it may be inappropriate.", EMPTY),
    "blind": ("Please upload the image so that I can look; no image was attached to the message.", EMPTY),
    "empty": ("", ""),
    "latein": (T1, f"I cannot assist with that. {EMPTY}"),
}
UNCHANGED = {
    "nochange": (
        "The picture matches the prompt.",
        done("No changes are needed, the image matches the prompt."),
    ),
    "nochange2": ("The picture matches the prompt.", done("Keep the image as it is.")),
    "nochange3": ("The picture matches.", done("The image already matches the prompt perfectly.")),
    "nochange4": ("The picture matches the prompt.", done("No further edits required.")),
    "nochangezh": ("图片符合提示。", done("无需修改")),
    "nochangede": ("Das Bild passt.", done("Keine Änderungen nötig.")),
}
ONES = {  # with what an editor gets, and how many flaws
    "single": (T1, "{'flaws': [], 'instructions': ['make the circle red']}", ["make the circle red"], 0),
    "quotes": (T1, done('change the sign to "OPEN"', flaws=OK["flaws"]), ['change the sign to "OPEN"'], 1),
    "numbered": (
        *(
            T1,
            done("1. make the circle red", "2) move it to the left", "- add a square", flaws=OK["flaws"]),
        ),
        *(["make the circle red", "move it to the left", "add a square"], 1),
    ),
    "joined": (
        *(T1, done("1. make the circle red; 2. move it to the left; 3. add a square", flaws=OK["flaws"])),
        *(["make the circle red", "move it to the left", "add a square"], 1),
    ),
    "regenerate": (T1, done("Regenerate the image with a red circle.", flaws=OK["flaws"]), [], 1),
}
TURNS = {**CRITIQUES, **REFUSALS, **UNCHANGED, **{name: one[:2] for name, one in ONES.items()}}
FIELDS = ("reasoningfield", "reasoningone", "reasoninglen")  # the words stand in another field


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *parts): ...

    def do_GET(self):
        self.send(200, {"data": [{"id": "m"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.guard:
            server.asked.append(body)
            fault = server.faults.pop(0) if server.faults else None
        if fault:
            self.send(fault[0], {"error": {"message": "told to"}}, fault[1])
            return
        text = json.dumps(body["messages"], ensure_ascii=False)
        found = re.search(r"case (\w+)", text)
        message, finish = {"content": "Hello!"}, "stop"
        if found:
            message, finish = said(found[1], second=len(body["messages"]) > 1)
        usage = {"usage": {"total_tokens": server.tokens}} if server.tokens else {}
        self.send(200, {"choices": [{"message": message, "finish_reason": finish}], **usage})

    def send(self, status, value, headers=None):
        data = json.dumps(value, ensure_ascii=False).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def said(name, *, second):
    """(message, finish_reason) of a turn."""
    if name == "reasoningone" and second:
        return {"content": J, "reasoning": "I need JSON."}, "stop"
    if name in FIELDS:
        finish = "length" if name == "reasoninglen" else "stop"
        return {"content": None, "reasoning": T1, "reasoning_content": T1}, finish
    return {"content": TURNS[name][second]}, "stop"


@contextmanager
def running(tokens=0):
    """A server; `asked` are the bodies, `faults` (status, headers) of the next answers, `tokens` of one."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.guard = True, threading.Lock()
    server.asked, server.faults, server.tokens = [], [], tokens
    server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
