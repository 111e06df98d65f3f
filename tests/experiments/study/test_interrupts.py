"""Signals that come while a line is read or written."""

import signal

import pytest

from nt_failures.experiments.study import interrupts


@pytest.mark.parametrize("fails", [False, True])
def test_a_signal_is_held_and_not_lost(fails):
    """Catches: Ctrl-C in the middle of a line, or none at all where that line could not be read or written."""
    done = []

    def block():
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
            done.append(True)
            if fails:
                raise EOFError

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
