"""Run a command and write what it took: `python launch.py FILE COMMAND ...`.

The system tells the peak of a process that begins as a copy of its parent to be at least the parent's; this
one is small, and the bench is not.
"""

import json
import os
import sys


def main() -> None:
    file, *command = sys.argv[1:]
    pid = os.fork()
    if not pid:
        try:
            os.execvp(command[0], command)
        finally:
            os._exit(127)
    _, status, usage = os.wait4(pid, 0)
    with open(file, "w") as out:
        json.dump({"cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss}, out)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
