"""Studies of reproduce.py with the training of stand_in.py, in this process or in one of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from scripts import STUDIES, load
from stand_in import train
from study_records import record

from nt_failures.experiments.study import engine, results_file

ROOT = Path(__file__).parents[2]
START = """
import runpy
import stand_in
from nt_failures.experiments.study.local import Local
from nt_failures.experiments.study.on_ray import OnRay
if __name__ == "__main__":
    Local.train = OnRay.train = staticmethod(stand_in.train)
    runpy.run_path(SCRIPT, run_name="__main__")
"""


class Inline:
    """An engine that trains in this process, one job after the other; keeps which it was asked for."""

    def __init__(self, train=train):
        self.train, self.asked, self.running, self.told = train, [], 0, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def run(self, jobs):
        for job in jobs:
            self.asked.append(job)
            self.told = self.train(job)
            yield self.told
            self.told = None

    def stop(self):
        return [self.told] if self.told else []


class Runs(Inline):
    """An engine whose runs are ended by `one(job)`, which knows the test's folder."""

    def __init__(self, folder):
        super().__init__(self.one)
        self.folder = folder


class Study:
    """A folder of recipes, a place for the results, and reproduce.py: in this process, or in one of its own."""

    def __init__(self, folder, monkeypatch):
        self.recipes, self.out, self.marks = (folder / name for name in ("recipes", "out", "marks"))
        for made in (self.recipes, self.marks):
            made.mkdir()
        self.gate, self.script, self.module = folder / "gate", folder / "start.py", load(STUDIES / "reproduce.py")
        self.script.write_text(START.replace("SCRIPT", repr(str(STUDIES / "reproduce.py"))))
        self.engine = Inline()
        monkeypatch.setattr(engine, "of", lambda args, folder: self.engine)

    def recipe(self, name, exact=0.5, **asked):
        results = {k: v for k, v in record(exact=exact).items() if k not in ("recipe", "seed", "fingerprint")}
        values = {"marks": str(self.marks), "results": results, **asked}
        (self.recipes / f"{name}.yaml").write_text(json.dumps(values, default=str))

    def arguments(self, *flags):
        return [str(self.recipes), "--output_dir", str(self.out), "--jobs", "1", "--seeds", "2", *flags]

    def run(self, *flags):
        self.module.main(self.arguments(*flags))

    def start(self, *flags):
        """The script as a user starts it."""
        paths = [str(ROOT), str(ROOT / "tests" / "helpers"), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        words = [sys.executable, str(self.script), *self.arguments(*flags)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # Elsewhere than in a clone: Ray's processes, too, import what lies in the folder in which a study is started.
        return subprocess.Popen(words, env=environment, cwd=self.marks, start_new_session=True, **pipes)

    @property
    def results(self):
        """(recipe, seed) of the lines of results.jsonl, as they stand."""
        return [(run.key.recipe, run.key.seed) for run in results_file.read_results(self.out / "results.jsonl")]

    @property
    def calls(self):
        """(recipe, seed) of the trainings that were started, killed ones too."""
        return sorted((name, int(seed)) for name, seed, _ in (mark.name.split("-") for mark in self.marks.iterdir()))

    def pid(self, recipe, seed):
        """The process of a training."""
        (mark,) = self.marks.glob(f"{recipe}-{seed}-*")
        return int(mark.name.split("-")[2])

    @property
    def leftovers(self):
        return [path.name for path in self.out.iterdir() if path.is_dir()]


def two_recipes(folder, monkeypatch):
    """A study of two recipes, `a` and `b`, that succeed."""
    made = Study(folder, monkeypatch)
    made.recipe("a", exact=0.5)
    made.recipe("b", exact=0.99)
    return made
