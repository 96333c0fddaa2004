"""`rpo` as the child of another: it ends when its stdin does, so with its parent, however that ended."""

import os
import signal
import threading
import time
from typing import NoReturn

from rpo_cli.cli import app
from rpo_cli.errors import Terminated

STDIN = 0
GRACE = 10.0  # seconds to commit in


def main() -> NoReturn:
    """The command of sys.argv."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    app.main()


def _end_with_parent() -> None:
    """Wait for the end of stdin; then as by SIGTERM, and by force what takes too long."""
    while os.read(STDIN, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(Terminated.exit_code)
