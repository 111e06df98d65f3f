"""The command line that the scripts of studies share."""

import signal
import sys

import pytest

from nt_failures.experiments.study import cli


def test_a_script_gives_back_its_signals(monkeypatch):
    """Catches: a handler of SIGTERM that stays, for whatever runs next in the process."""
    monkeypatch.setattr(sys, "argv", ["study.py", "--a"])
    before, seen = signal.getsignal(signal.SIGTERM), []
    cli.run_script(lambda argv: seen.append((argv, signal.getsignal(signal.SIGTERM))))
    assert seen == [(["--a"], signal.default_int_handler)]
    with pytest.raises(SystemExit):
        cli.run_script(lambda argv: signal.raise_signal(signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) == before
