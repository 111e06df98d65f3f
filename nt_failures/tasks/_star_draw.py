"""PathStar's draws by the compiled loop of _star_draw.c, where the installation has it."""

import hashlib
from pathlib import Path
from types import ModuleType

import numpy as np


def _compiled() -> ModuleType | None:
    """The loop, if there is one and it was compiled from the source that lies here."""
    try:
        from nt_failures.tasks import _star_loop
    except ImportError:  # no C compiler at installation
        return None
    source = Path(__file__).with_suffix(".c")
    digest = hashlib.sha256(source.read_bytes()).hexdigest() if source.is_file() else ""
    return _star_loop if digest == _star_loop.SOURCE_DIGEST else None


_star_loop = _compiled()

COMPILED = _star_loop is not None
"""Whether there is a compiled loop. Without it NumPy draws the same rows, in about three times the time."""

_LOWER = 2**64 - 1


def draw(
    rng: np.random.Generator, n: int, degree: int, path_length: int, num_nodes: int
) -> dict[str, np.ndarray] | None:
    """Columns of `PathStar.sample`, and the generator set ahead, as NumPy's own draws leave them.

    None, with the generator as it was, where they have to be NumPy's: without a compiled loop, of another generator than
    PCG64, for no instance, and where a number has to be drawn again.
    """
    if _star_loop is None or n == 0 or not isinstance(rng.bit_generator, np.random.PCG64):
        return None
    with rng.bit_generator.lock:
        state = rng.bit_generator.state
        words = state["state"]["state"], state["state"]["inc"]
        halves = [half for word in words for half in (word & _LOWER, word >> 64)]
        now = np.array([*halves, state["has_uint32"], state["uinteger"]], dtype=np.uint64)
        columns = {
            "edges": np.empty((n, degree * (path_length - 1), 2), dtype=np.int32),
            "source": np.empty(n, dtype=np.int32),
            "goal": np.empty(n, dtype=np.int32),
            "path": np.empty((n, path_length), dtype=np.int32),
        }
        if not _star_loop.draw(now, degree, path_length, num_nodes, *columns.values()):
            return None
        low, high, _, _, has, left = map(int, now)
        state["state"]["state"] = low | high << 64
        rng.bit_generator.state = state | {"has_uint32": has, "uinteger": left}
    return columns
