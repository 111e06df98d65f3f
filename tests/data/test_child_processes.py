"""Workers end with their caller and with their pool; the first is in tests/faults/test_builder_faults.py."""

import signal

import multiprocess

from nt_failures.data import child_processes


def handler_of_a_worker():
    """How a worker takes SIGTERM once it has begun to build."""
    child_processes.end_with(multiprocess.parent_process(), forked=True)
    return signal.getsignal(signal.SIGTERM)


def test_a_worker_takes_sigterm_by_the_default():
    """Catches: its caller's handler in a worker, so that `Pool.terminate` may wait for it without end."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with multiprocess.get_context("fork").Pool(1) as pool:
            assert pool.apply(handler_of_a_worker) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
