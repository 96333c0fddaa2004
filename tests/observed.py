"""An observer for tests."""


class Notes:
    """An observer that keeps what is said."""

    def __init__(self):
        self.said = []

    def start(self, stage, total, present): ...

    def advance(self, rows, rejects): ...

    def finish(self): ...

    def note(self, text):
        self.said.append(text)
