"""An observer for tests."""

from rpo_cli.errors import Terminated


class Notes:
    """An observer that keeps what is said."""

    def __init__(self):
        self.said = []

    def start(self, stage, total, present): ...

    def advance(self, rows, rejects): ...

    def finish(self): ...

    def note(self, text):
        self.said.append(text)


class StopsAt:
    """An observer that keeps what it is told, and stops the training at a step."""

    def __init__(self, stop: int = -1) -> None:
        self.said: list[str] = []
        self._left, self._training = stop, False

    def start(self, stage, total, present) -> None:
        self._training = stage == "train"

    def advance(self, rows, rejects) -> None:
        self._left -= self._training
        if self._left == 0:
            raise Terminated

    def finish(self) -> None: ...

    def note(self, text) -> None:
        self.said.append(text)
