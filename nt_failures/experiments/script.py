"""How a script ends: errors as one line, and an exit code that says what happened."""

import signal
import sys
from collections.abc import Callable

DIVERGED = 3
"""Exit code of a script whose training diverged, so that a caller can tell that from a failure."""
KEPT = "interrupted; --resume goes on from the last checkpoint, if one was saved"


def run(main: Callable[[list[str]], object], interrupted: str = "interrupted") -> None:
    """Call `main` with the command line.

    Exit codes: 0; 1 after an error that is the user's to repair, shown as one line; 3 after a divergence
    (FloatingPointError); 130 after Ctrl-C, of which `interrupted` is said. Any other error keeps its traceback.
    """
    try:
        main(sys.argv[1:])
    except FloatingPointError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(DIVERGED)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.stderr.write(f"{interrupted}\n")
        sys.exit(128 + signal.SIGINT)
