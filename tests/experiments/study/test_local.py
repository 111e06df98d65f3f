"""The engine of this machine, with trainings whose processes end in an odd way; what it promises beyond this is in
tests/faults/test_studies.py."""

import os
from pathlib import Path

import pytest

from nt_failures.experiments.study.job import Ended, Job
from nt_failures.experiments.study.local import Local


def _tells_and_breaks(job, scratch, keep):
    import atexit

    atexit.register(os._exit, 1)
    return Ended(job, results={"exact": 0.5})


def _tells_nothing(job, scratch, keep):
    os._exit(0)


@pytest.mark.parametrize(
    ("train", "told"),
    [(_tells_and_breaks, (True, "")), (_tells_nothing, (False, "its process ended with exit code 0"))],
)
def test_a_job_ends_once(train, told, tmp_path, monkeypatch):
    """Catches: a finished run that counts as failed, too, as its process died on its way out, and ends its recipe; a
    job of which nothing is told and nobody hears."""
    monkeypatch.setattr(Local, "train", staticmethod(train))
    recipe = Path(tmp_path / "a.yaml")
    recipe.write_text("seed: 0\n")
    with Local(at_once=2, threads=1, scratch=tmp_path / "scratch") as engine:
        jobs = [Job(recipe, seed, ()) for seed in (0, 1)]
        ended = sorted((end.job.seed, bool(end.results), end.failed) for end in engine.run(jobs))
    assert ended == [(0, *told), (1, *told)]
