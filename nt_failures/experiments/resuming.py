"""Check that a resumed run has the arguments it started with, a whole checkpoint, and something left to do."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nt_failures.experiments.arguments import Arguments
from nt_failures.hub.json_files import read_object, write_json
from nt_failures.hub.run_files import ARGUMENTS_FILE, RESULTS_FILE
from nt_failures.training import checkpoint_files

PARTS = ("task", "data", "model", "objective")
BUDGET = ("max_steps", "num_train_epochs", "stop_when_solved")
"""Training arguments that say how much is to be trained: a resumed run may change them."""
FIXED = (
    # A checkpoint brings them back, so a new value would not be used.
    *("optimizer", "optim", "learning_rate", "muon_learning_rate", "weight_decay"),
    *("adam_beta1", "adam_beta2", "adam_epsilon"),
    # They choose the rows of every step.
    *("seed", "data_seed", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("train_sampling_strategy", "dataloader_drop_last"),
    # The last steps would be made otherwise than the first, and recipe.yaml would repeat neither.
    *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "max_grad_norm"),
    *("bf16", "fp16", "neftune_noise_alpha"),
)
"""Training arguments that a resumed run must keep."""
PROCESSES = "processes"
"""In arguments.json: how many there were."""


def write_arguments(args: Arguments, folder: Path) -> None:
    """arguments.json: what `check_same_run` compares a later command with."""
    write_json(folder / ARGUMENTS_FILE, _as_written(args))


def check_same_run(args: Arguments, folder: Path) -> None:
    """ValueError unless the run in the folder, if any, began with these arguments.

    Its budget may differ, and what only says how things are watched and saved.
    """
    if not (folder / ARGUMENTS_FILE).exists():
        return
    began = _fixed(_written(folder))
    for name, value in _fixed(_as_written(args)).items():
        if began.get(name, value) != value:
            raise ValueError(
                f"the run in {str(folder)!r} began with {name}={began[name]!r}, not {value!r}; resume it with the "
                "arguments it began with, or give --output_dir with another folder."
            )


def _fixed(written: Mapping[str, Any]) -> dict[str, Any]:
    """What a resumed run must keep of its arguments.json, by name."""
    free = ("num_validation", "num_test")
    fixed = {name: value for part in PARTS for name, value in written[part].items() if name not in free}
    fixed |= {name: written["training"].get(name, "its default") for name in FIXED}
    if PROCESSES in written:  # they share each step's rows
        fixed["num_processes"] = written[PROCESSES]
    if fixed.get("streaming"):  # workers divide a stream; a single one reads as the process itself does
        fixed["dataloader_num_workers"] = written["training"].get("dataloader_num_workers") or 1
    return fixed


def _as_written(args: Arguments) -> dict[str, Any]:
    """The arguments as arguments.json gives them back."""
    return json.loads(json.dumps({**args.to_dict(), PROCESSES: args.training.world_size}, default=np.generic.item))


def _written(folder: Path) -> dict[str, Any]:
    """What an earlier run wrote of its arguments."""
    try:
        began = {"training": {}, **read_object(folder / ARGUMENTS_FILE)}
        if not all(isinstance(began.get(part), dict) for part in (*PARTS, "training")):
            raise ValueError(f"{ARGUMENTS_FILE} names no task, data, model and objective")
    except ValueError as error:
        unknown = f"output_dir {str(folder)!r}: {error}, so it cannot be told what the run began as"
        raise ValueError(f"{unknown}; put the file back, or give --output_dir with another folder.") from error
    return began


def checkpoint_of(asked: str | bool, folder: Path, args: Arguments) -> str:
    """The checkpoint asked for, by its path or as the `last` one of the folder.

    ValueError if there is none, it is half-written, or its run has ended and is not asked for more.
    """
    checkpoint = Path(str(asked))
    if str(asked).lower() in ("last", "true"):
        checkpoint = checkpoint_files.newest_whole(folder)
        if checkpoint is None:
            none = f"output_dir {str(folder)!r} holds no whole checkpoint to resume"
            raise ValueError(f"{none}; train with --save_strategy steps.")
    if damage := checkpoint_files.damage(checkpoint):
        raise ValueError(f"{str(checkpoint)!r} is no whole checkpoint ({damage}); --resume takes the newest whole one.")
    step = json.loads((checkpoint / checkpoint_files.STATE_FILE).read_text(encoding="utf-8"))["global_step"]
    results = folder / RESULTS_FILE
    # A final test followed the checkpoint; that of an earlier run, gone on from since, does not count.
    if results.exists() and results.stat().st_mtime >= checkpoint_files.written(checkpoint):
        before, now = _written(folder)["training"], _as_written(args)["training"]
        same_budget = all(before.get(name) == now.get(name) for name in BUDGET)
        if same_budget or 0 < args.training.max_steps <= step:
            raise ValueError(
                f"the run in {str(folder)!r} ended at step {step} and was tested; give it more to do by a larger "
                "--max_steps or --num_train_epochs, or by another --stop_when_solved."
            )
    return str(checkpoint)
