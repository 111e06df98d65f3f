"""Runs of examples/train.py in processes of their own that die where they are told to, started from one clean fork
server.

A server that has imported everything once makes a process cost a fork, not ten seconds of imports.
"""

import json
import multiprocessing
import os
import runpy
import shutil
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import datasets
import torch
from transformers import PreTrainedModel, TrainerState

from nt_failures.hub import card
from nt_failures.training import checkpoint_files
from nt_failures.training.trainer import ObjectiveTrainer

TRAIN = Path(__file__).parents[2] / "examples" / "train.py"
MID_SAVE = ("weights", "optimizer.pt", "scheduler.pt", "rng_state", "state", "manifest")
"""Places in a save at which it can die, each with half of that file written."""
SPOTS = ("step", *MID_SAVE, "rotation")

LONGEST = 120
"""Seconds after which a run counts as hanging."""


class Fault(NamedTuple):
    """What happens, once: signals at `spot` of a step. SIGKILL also cuts the file that is just being written in
    half."""

    step: int
    spot: str = "step"
    signals: tuple[int, ...] = (signal.SIGKILL,)


class Ended(NamedTuple):
    """How a process ended: exit code (minus the signal that killed it), what it printed, the steps that it trained."""

    code: int
    text: str
    steps: list[int]


def context() -> multiprocessing.context.BaseContext:
    """The fork server, with all that a run imports."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["nt_failures.experiments.run", "transformers.models.gpt2", "pytest"])
    return server


def start(flags: str, folder: Path, cache: Path, fault: Fault | None = None, rank: dict[str, str] | None = None):
    """Start a run; `finish` waits for it."""
    argv = [*flags.split(), "--output_dir", str(folder)]
    notes = folder.parent / f"{folder.name}-{(rank or {}).get('RANK', '0')}"
    process = context().Process(target=_child, args=(argv, str(notes), str(cache), fault, rank or {}))
    process.start()
    return process, notes


def finish(process, notes: Path) -> Ended:
    """Wait for a run, which takes a few seconds; one that hangs is killed, which its exit code then shows."""
    process.join(timeout=LONGEST)
    process.kill()
    process.join()
    file = notes.with_suffix(".steps")
    steps = json.loads(f"[{file.read_text(encoding='utf-8').rstrip(',') if file.exists() else ''}]")
    return Ended(process.exitcode, notes.with_suffix(".out").read_text(encoding="utf-8"), sorted(set(steps)))


def run(*args) -> Ended:
    """Start and finish."""
    return finish(*start(*args))


def _child(argv: list[str], notes: str, cache: str, fault: Fault | None, rank: dict[str, str]) -> None:
    os.environ |= rank
    torch.set_num_threads(1)
    datasets.config.HF_DATASETS_CACHE = cache
    out = os.open(f"{notes}.out", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    card.draw = lambda *args: None  # figures take longer than the training
    _install(fault, Path(f"{notes}.steps"))
    sys.argv = [str(TRAIN), *argv]
    runpy.run_path(str(TRAIN), run_name="__main__")


def _install(fault: Fault | None, steps: Path) -> None:
    """Note every step, and plant the fault."""
    training_step, file = ObjectiveTrainer.training_step, steps.open("w", encoding="utf-8")
    seen = set()

    def noted(self, *args, **kwargs):
        step = self.state.global_step + 1
        first = step not in seen  # of the accumulated batches
        seen.add(step)
        file.write(f"{step},")
        file.flush()
        loss = training_step(self, *args, **kwargs)
        if first and fault is not None and (fault.spot, fault.step) == ("step", step):
            _strike(fault)
        return loss

    ObjectiveTrainer.training_step = noted
    if fault is not None and fault.spot != "step":
        _cut(fault)


def _strike(fault: Fault) -> None:
    for number in fault.signals:
        os.kill(os.getpid(), number)


def _cut(fault: Fault) -> None:
    """Let the process die with half of a file of the checkpoint written."""
    folder = f"checkpoint-{fault.step}"

    def die(path: Path) -> None:
        os.truncate(path, path.stat().st_size // 2)
        _strike(fault)

    save, weights, state = torch.save, PreTrainedModel.save_pretrained, TrainerState.save_to_json
    seal, rotate = checkpoint_files.seal, checkpoint_files.rotate

    def saved(value, path, *args, **kwargs):
        save(value, path, *args, **kwargs)
        if Path(path).parent.name == folder and Path(path).name.startswith(fault.spot):
            die(Path(path))

    def weighed(self, path, *args, **kwargs):
        weights(self, path, *args, **kwargs)
        if (Path(path).name, fault.spot) == (folder, "weights"):
            die(Path(path) / "model.safetensors")

    def stated(self, path):
        state(self, path)
        if (Path(path).parent.name, fault.spot) == (folder, "state"):
            die(Path(path))

    def sealed(path):
        seal(path)
        if (path.name, fault.spot) == (folder, "manifest"):
            (path / "manifest.json").rename(path / "manifest.part")  # as the writing of it goes
            die(path / "manifest.part")

    def rotated(path, limit, best):
        if (checkpoint_files.in_order(path)[-1].name, fault.spot) == (folder, "rotation"):
            shutil.rmtree = lambda path, **kwargs: (next(path.iterdir()).unlink(), _strike(fault))
        rotate(path, limit, best)
        if fault.spot == "rotation" and path.joinpath(folder).exists():
            _strike(fault)

    torch.save, PreTrainedModel.save_pretrained, TrainerState.save_to_json = saved, weighed, stated
    checkpoint_files.seal, checkpoint_files.rotate = sealed, rotated
