"""How a script ends: errors as one line, and an exit code that says what happened."""

import signal
import sys
from collections.abc import Callable

from nt_failures.data import child_processes

DIVERGED = 3
"""Exit code of a script whose training diverged, so that a study can tell that from a failure."""


def run(
    main: Callable[[list[str]], object],
    errors: tuple[type[Exception], ...] = (ValueError, OSError, ImportError),
    interrupted: str = "interrupted; what was saved before stays, and --resume goes on from a checkpoint among it",
) -> None:
    """Call `main` with the command line. A study that started this process by `child_processes.start` takes it along.

    Exit codes: 0; 1 after one of `errors`; 3 after a divergence (FloatingPointError); 130 after Ctrl-C. Any other error
    is a fault of the program and keeps its traceback.

    Args:
        errors: exceptions that are the user's to repair, shown as one line.
        interrupted: what is said after Ctrl-C.
    """
    child_processes.hold()
    try:
        main(sys.argv[1:])
    except FloatingPointError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(DIVERGED)
    except errors as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.stderr.write(f"{interrupted}\n")
        sys.exit(128 + signal.SIGINT)
