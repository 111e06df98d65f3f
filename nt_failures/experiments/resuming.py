"""Resuming a run: only as what it began, on the rows that come next, and not behind its end."""

import json
from pathlib import Path
from typing import Any

from nt_failures.experiments.arguments import Arguments
from nt_failures.hub.json_files import plain, read_object, write_json
from nt_failures.hub.run_files import ARGUMENTS_FILE, RESULTS_FILE
from nt_failures.training import checkpoint_files

RESTORED = ("optimizer", "optim", "learning_rate", "muon_learning_rate", "weight_decay", "adam_beta1", "adam_beta2")
RESTORED += ("adam_epsilon",)
"""Training arguments that a checkpoint brings back with the optimizer, whatever is given."""
ORDERED = ("seed", "data_seed", "per_device_train_batch_size", "gradient_accumulation_steps")
ORDERED += ("train_sampling_strategy", "dataloader_drop_last")
"""Training arguments that say which rows the steps after the checkpoint see."""
HELD = (
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "max_grad_norm",
    "bf16",
    "fp16",
    "neftune_noise_alpha",
)
"""Training arguments that say how a step is made."""
PROCESSES = "processes"
"""In arguments.json: how many there were."""
BUDGET = ("max_steps", "num_train_epochs", "stop_when_solved")
"""Training arguments that say how much is to be trained."""


def write_arguments(args: Arguments, folder: Path) -> None:
    """arguments.json: what `check_same_run` compares a later command with."""
    write_json(folder / ARGUMENTS_FILE, {**args.to_dict(), PROCESSES: args.training.world_size})


def check_same_run(args: Arguments, folder: Path) -> None:
    """Raise ValueError unless the run in the folder began with these arguments: it would train on silently as something it is not.

    Its budget may differ, and what only says how things are watched and saved.
    """
    path = folder / ARGUMENTS_FILE
    if not path.exists():
        return
    earlier, now = _arguments(path), json.loads(json.dumps(args.to_dict(), default=plain))
    for part in ("task", "data", "model", "objective"):
        for name, value in now[part].items():
            if earlier[part].get(name, value) != value and name not in ("num_validation", "num_test"):
                raise ValueError(
                    f"the run in {str(folder)!r} has {name}={earlier[part].get(name)!r}, not {value!r}; resume it with the "
                    "arguments it began with, or give --output_dir with another folder."
                )
    before, after = earlier.get("training", {}), now["training"]
    for name in RESTORED + ORDERED + HELD:
        if before.get(name) != after.get(name):
            given, began = (values.get(name, "its default") for values in (after, before))
            so = f"which its checkpoints bring back, so {given} would not be used"
            if name in ORDERED:
                so = f"so with {given} it would go on with other rows than the rest of what it began"
            if name in HELD:
                so = f"so with {given} its last steps would be made otherwise than its first, and its recipe.yaml repeat neither"
            raise ValueError(
                f"the run in {str(folder)!r} began with {name}={began}, {so}; resume it with the arguments it began with, or "
                "give --output_dir with another folder."
            )
    began, given = earlier.get(PROCESSES, args.training.world_size), args.training.world_size
    if began != given:
        raise ValueError(
            f"the run in {str(folder)!r} began in {began} processes, which share each step's rows, so in {given} it would go "
            f"on with other rows than the rest of what it began; resume it with accelerate launch --num_processes {began}, "
            "or give --output_dir with another folder."
        )
    if args.data.streaming:
        _check_same_workers(before, after, folder)


def _check_same_workers(before: dict[str, Any], after: dict[str, Any], folder: Path) -> None:
    """A stream is divided among workers, which all skip to the checkpoint's step: of another number, to other rows."""
    began, given = (values.get("dataloader_num_workers", 0) for values in (before, after))
    if (began or 1) != (given or 1):  # a single worker reads as the process itself does
        raise ValueError(
            f"the run in {str(folder)!r} began with dataloader_num_workers={began}, and workers divide a stream, so with "
            f"{given} it would go on with other rows, some of them seen already; resume it with --dataloader_num_workers "
            f"{began}, or give --output_dir with another folder."
        )


def _arguments(path: Path) -> dict[str, dict[str, Any]]:
    """What an earlier run wrote of its arguments."""
    try:
        earlier = read_object(path)
        if not all(isinstance(earlier.get(part), dict) for part in ("task", "data", "model", "objective")):
            raise ValueError(f"{path.name} names no task, data, model and objective")
    except ValueError as error:
        raise ValueError(
            f"output_dir {str(path.parent)!r}: {error}, so it cannot be told what the run began as; put the file back, or "
            "give --output_dir with another folder."
        ) from error
    return earlier


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
                f"{str(checkpoint)!r} is at step {step} of {args.training.max_steps} already; give a larger --max_steps to go "
                "on."
            )
        if _same_budget(args, folder):
            raise ValueError(
                f"the run in {str(folder)!r} ended at step {step} and was tested; give it more to do by --max_steps or "
                "--num_train_epochs, or by another --stop_when_solved."
            )
    return str(checkpoint)


def _same_budget(args: Arguments, folder: Path) -> bool:
    """Whether nothing is asked for that the run in the folder was not asked for."""
    path = folder / ARGUMENTS_FILE
    if not path.exists():
        return False
    before, now = (
        _arguments(path).get("training", {}),
        json.loads(json.dumps(args.to_dict(), default=plain))["training"],
    )
    return all(before.get(name) == now.get(name) for name in BUDGET)


def _tested_after(folder: Path, checkpoint: Path, step: int) -> bool:
    """Whether the final test of a run of that many steps is done; a run that was stopped before it goes on to it.

    Nor does the test of an earlier run count, of which a checkpoint was gone on from.
    """
    path = folder / RESULTS_FILE
    if not path.exists() or path.stat().st_mtime < checkpoint_files.written(checkpoint):
        return False
    return json.loads(path.read_text(encoding="utf-8"))["steps"] >= step
