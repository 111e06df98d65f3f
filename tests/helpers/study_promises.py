"""What a study promises whoever runs it, put to an engine: a file that imports these tests has a fixture `on`, flags.

Each training is a process of the engine and takes no time; each study is a process that is stopped or killed.
"""

import os
import signal

import pytest
from small_studies import two_recipes
from stand_in import ends, until

from nt_failures.experiments.study import results_file

EVERY = [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two recipes, `a` and `b`, that succeed."""
    return two_recipes(tmp_path, monkeypatch)


def finish(process):
    """Output, errors and exit code of a study that ends by itself."""
    out, errors = process.communicate(timeout=180)
    return out, errors, process.returncode


def kill(process):
    """SIGKILL, which a study cannot do anything about; the engine's own processes are left to themselves."""
    process.kill()
    process.communicate(timeout=60)


def test_killed_anywhere_every_run_counts_once(small, on):
    """Killed in the middle of a run, then between two runs with half a line written, then left to finish.

    Catches: a training that goes on for hours beside the next attempt; a killed run that counts, a finished one lost or
    doubled, a lock or folder that blocks the next attempt, two processes at work on one study; no look at what it has.
    """
    small.recipe("b", exact=0.99, gate=small.gate, gate_of_seed=0)
    process = small.start(*on)
    try:
        until(lambda: ("b", 0) in small.calls and small.results, process)
        assert small.results == [("a", 0)]
        with pytest.raises(ValueError, match=r"another process is at work in .*; wait until it ends, or give --output"):
            small.run()
        small.run("--only_report")
        assert "| a | " in (small.out / "table.md").read_text()
    finally:
        kill(process)
    assert ends(small.pid("b", 0)), "it still runs"
    assert small.results == [("a", 0)]

    small.gate.touch()
    child = os.fork()
    if child == 0:  # dies right behind its second run, while it writes a line
        _die_while_writing()
        try:
            small.run()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert small.results == [("a", 0), ("b", 0), ("a", 1)]

    errors, code = finish(small.start(*on))[1:]
    assert code == 0, errors
    assert small.results == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert small.calls.count(("a", 0)) == small.calls.count(("a", 1)) == 1
    assert small.calls.count(("b", 0)) == 2  # the one that was killed, and again
    assert len((small.out / "results.jsonl").read_text().splitlines()) == 4
    table = (small.out / "table.md").read_text()
    assert [line.split("|")[8].split()[2] for line in table.splitlines()[2:4]] == ["2", "2"]  # `x of 2` seeds
    assert small.leftovers == []


def _die_while_writing():
    append = results_file.append_result

    def append_and_die(path, run):
        append(path, run)
        if run["recipe"] == "a":
            with open(path, "ab") as file:
                file.write(b'{"recipe":"b","se')
            os.kill(os.getpid(), signal.SIGKILL)

    results_file.append_result = append_and_die


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_study_that_is_stopped_leaves_no_training_behind(name, small, on):
    """Stopped in the third of four runs.

    Catches: an orphan that takes a core beside the next attempt; a trace for a stop that was asked for; a finished run
    thrown away with the one that was stopped.
    """
    small.recipe("a", gate=small.gate, gate_of_seed=1)
    process = small.start(*on)
    until(lambda: ("a", 1) in small.calls, process)
    process.send_signal(getattr(signal, name))
    errors, code = finish(process)[1:]
    assert code == 130, errors
    assert errors.strip().endswith("stopped; finished runs are kept, and the same command goes on from there")
    assert "Traceback" not in errors
    assert ends(small.pid("a", 1))
    assert small.results == [("a", 0), ("b", 0)]


def test_a_failing_recipe_ends_in_one_error_and_keeps_the_others(small, on):
    """Catches: exit code 0 after a failure, a trace instead of a line, a log that is gone, finished runs lost, the
    failing recipe tried for every seed."""
    small.recipe("b", fail="no such objective")
    errors, code = finish(small.start(*on))[1:]
    assert code == 1, errors
    log = small.out / "failed" / "b-seed0.txt"
    line = errors.strip().splitlines()[-1]
    assert line == f"error: b, seed 0 failed: ValueError: no such objective (log: {log})"
    assert log.read_text() == "some words before\nno such objective\n"
    assert "Traceback" not in errors
    assert small.results == [("a", 0), ("a", 1)]
    assert small.calls == [("a", 0), ("a", 1), ("b", 0)]
    assert "| a |" in (small.out / "table.md").read_text()


def test_a_process_that_is_killed_costs_no_other_run(small, on):
    """SIGKILL at every run of one recipe, as the kernel's memory killer deals it.

    Catches: a study that waits for it for ever; one that loses its other runs with it, or counts the killed one.
    """
    small.recipe("a", die=True)
    errors, code = finish(small.start(*on))[1:]
    assert code == 1, errors
    assert errors.strip().splitlines()[-1].startswith("error: a, seed 0 failed: ")
    assert small.results == [("b", 0), ("b", 1)]
