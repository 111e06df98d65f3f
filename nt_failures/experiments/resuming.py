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

BUDGET = ("max_steps", "num_train_epochs", "stop_when_solved")
"""Training arguments that say how much is to be trained: a resumed run may change them."""
FIXED = {
    "which its checkpoints bring back, so {now} would not be used": (
        *("optimizer", "optim", "learning_rate", "muon_learning_rate", "weight_decay"),
        *("adam_beta1", "adam_beta2", "adam_epsilon"),
    ),
    "so with {now} it would go on with other rows than the rest of what it began": (
        *("seed", "data_seed", "per_device_train_batch_size", "gradient_accumulation_steps"),
        *("train_sampling_strategy", "dataloader_drop_last"),
    ),
    "so with {now} its last steps would be made otherwise than its first, and its recipe.yaml repeat neither": (
        *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "max_grad_norm"),
        *("bf16", "fp16", "neftune_noise_alpha"),
    ),
}
"""Training arguments that a resumed run must keep, by what would happen otherwise."""
PROCESSES = "processes"
"""In arguments.json: how many there were."""


def write_arguments(args: Arguments, folder: Path) -> None:
    """arguments.json: what `check_same_run` compares a later command with."""
    write_json(folder / ARGUMENTS_FILE, {**args.to_dict(), PROCESSES: args.training.world_size})


def check_same_run(args: Arguments, folder: Path) -> None:
    """Raise ValueError unless the run in the folder began with these arguments.

    Its budget may differ, and what only says how things are watched and saved.
    """
    if not (folder / ARGUMENTS_FILE).exists():
        return
    began, now = _written(folder), _as_written(args)
    for part in ("task", "data", "model", "objective"):
        for name, value in now[part].items():
            if began[part].get(name, value) != value and name not in ("num_validation", "num_test"):
                raise ValueError(
                    f"the run in {str(folder)!r} has {name}={began[part].get(name)!r}, not {value!r}; resume it with "
                    "the arguments it began with, or give --output_dir with another folder."
                )
    for consequence, names in FIXED.items():
        for name in names:
            before, after = (values["training"].get(name, "its default") for values in (began, now))
            if before != after:
                _refuse(folder, f"with {name}={before}, {consequence.format(now=after)}", "the arguments it began with")
    before, after = began.get(PROCESSES, args.training.world_size), args.training.world_size
    if before != after:
        why = f"in {before} processes, which share each step's rows, so in {after} it would go on with other rows than"
        _refuse(folder, f"{why} the rest of what it began", f"accelerate launch --num_processes {before}")
    before, after = (values["training"].get("dataloader_num_workers", 0) for values in (began, now))
    if args.data.streaming and (before or 1) != (after or 1):  # a single worker reads as the process itself does
        why = f"with dataloader_num_workers={before}, and workers divide a stream, so with {after} it would go on with"
        _refuse(folder, f"{why} other rows, some of them seen already", f"--dataloader_num_workers {before}")


def _refuse(folder: Path, began: str, with_what: str) -> None:
    raise ValueError(
        f"the run in {str(folder)!r} began {began}; resume it with {with_what}, or give --output_dir with another "
        "folder."
    )


def _as_written(args: Arguments) -> dict[str, Any]:
    """The arguments as arguments.json would give them back."""
    return json.loads(json.dumps(args.to_dict(), default=np.generic.item))


def _written(folder: Path) -> Mapping[str, Any]:
    """What an earlier run wrote of its arguments."""
    try:
        began = read_object(folder / ARGUMENTS_FILE)
        if not all(isinstance(began.get(part), dict) for part in ("task", "data", "model", "objective")):
            raise ValueError(f"{ARGUMENTS_FILE} names no task, data, model and objective")
    except ValueError as error:
        raise ValueError(
            f"output_dir {str(folder)!r}: {error}, so it cannot be told what the run began as; put the file back, or "
            "give --output_dir with another folder."
        ) from error
    return {"training": {}, **began}


def checkpoint_of(asked: str | bool, folder: Path, args: Arguments) -> str:
    """The checkpoint asked for, by its path or as the `last` one of the folder.

    Raises:
        ValueError: there is none, it is half-written, or its run has ended and is not asked for more.
    """
    checkpoint = Path(str(asked))
    if str(asked).lower() in ("last", "true"):
        checkpoint = checkpoint_files.newest_whole(folder)
        if checkpoint is None:
            raise ValueError(
                f"output_dir {str(folder)!r} holds no whole checkpoint to resume; train with --save_strategy steps."
            )
    state = checkpoint / checkpoint_files.STATE_FILE
    if not state.exists():
        raise ValueError(f"{str(checkpoint)!r} is no checkpoint of a Trainer ({state.name} is missing).")
    damage = checkpoint_files.damage(checkpoint)
    if damage is not None:
        raise ValueError(f"{str(checkpoint)!r} is half-written ({damage}); --resume takes the newest whole one.")
    step = json.loads(state.read_text(encoding="utf-8"))["global_step"]
    if _tested_after(folder, checkpoint, step):
        if 0 < args.training.max_steps <= step:
            raise ValueError(
                f"{str(checkpoint)!r} is at step {step} of {args.training.max_steps} already; give a larger "
                "--max_steps to go on."
            )
        if _same_budget(args, folder):
            raise ValueError(
                f"the run in {str(folder)!r} ended at step {step} and was tested; give it more to do by --max_steps or "
                "--num_train_epochs, or by another --stop_when_solved."
            )
    return str(checkpoint)


def _same_budget(args: Arguments, folder: Path) -> bool:
    """Whether nothing is asked for that the run in the folder was not asked for."""
    if not (folder / ARGUMENTS_FILE).exists():
        return False
    before, now = (values["training"] for values in (_written(folder), _as_written(args)))
    return all(before.get(name) == now.get(name) for name in BUDGET)


def _tested_after(folder: Path, checkpoint: Path, step: int) -> bool:
    """Whether the final test of a run of that many steps is done; a run that was stopped before it goes on to it.

    Nor does the test of an earlier run count, of which a checkpoint was gone on from.
    """
    path = folder / RESULTS_FILE
    if not path.exists() or path.stat().st_mtime < checkpoint_files.written(checkpoint):
        return False
    return json.loads(path.read_text(encoding="utf-8"))["steps"] >= step
