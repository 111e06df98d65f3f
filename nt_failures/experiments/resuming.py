"""Whether arguments go on with the run that an output folder holds: what it began with, what may differ, what is left.

Of the training arguments all must stay but those that say how much is trained, where and how watched. The others would
make its last steps otherwise than the first, or a checkpoint brings the earlier value back, and the recipe would repeat
neither. What transformers may yet add is among them.
"""

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nt_failures.experiments.arguments import Arguments
from nt_failures.experiments.run_arguments import RunArguments
from nt_failures.hub.integrity import sum_of_file
from nt_failures.hub.json_files import read_object
from nt_failures.hub.run_files import ARGUMENTS_FILE, RESULTS_FILE
from nt_failures.models.families import from_folder
from nt_failures.training import checkpoint_files

logger = logging.getLogger(__name__)

PARTS = ("task", "data", "model", "objective")
PROCESSES = "processes"  # in arguments.json: how many there were
CONTENT = "content"  # and the sums of the files that are named, of whose paths only the last name stands there
BUDGET = ("max_steps", "num_train_epochs", "stop_when_solved")
"""How much is to be trained."""
FREE = {
    *BUDGET,
    *("output_dir", "overwrite_output_dir", "run_name", "project", "report_to", "disable_tqdm", "sample_rows"),
    *("use_cpu", "local_rank", "use_cache", "torch_empty_cache_steps", "debug", "skip_memory_metrics"),
    *("dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_pin_memory", "dataloader_persistent_workers"),
    *("dataloader_multiprocessing_context", "per_device_eval_batch_size", "full_decode", "batch_eval_metrics"),
    *("include_num_input_tokens_seen", "include_for_metrics", "load_best_model_at_end", "metric_for_best_model"),
    *("greater_is_better", "push_to_hub", "enable_jit_checkpoint", "restore_callback_states_from_checkpoint"),
}
FREE_BEGIN = ("eval_", "log_", "logging_", "save_", "hub_", "trackio_", "do_", "resume", "ddp_")
FREE_BEGIN += ("gradient_checkpointing", "activation_checkpointing")
"""Names, and how names begin, of what may be changed."""
WITHOUT_END = ("constant", "constant_with_warmup", "inverse_sqrt", "reduce_lr_on_plateau")
"""Schedules that depend on no budget."""


def check_same_run(args: Arguments, folder: Path) -> None:
    """ValueError unless the run in the folder began with these arguments.

    Its budget may differ, and what only says how things are watched and saved.
    """
    if found := difference(args, folder):
        name, before, now = found
        other = f"the run in {str(folder)!r} began with {name}={before!r}, not {now!r}"
        way = "resume it with the arguments it began with, or give --output_dir with another folder"
        raise ValueError(f"{other}; {way}.")


def difference(args: Arguments, folder: Path) -> tuple[str, Any, Any] | None:
    """What the run in the folder began with otherwise: its name, the value there, the value now."""
    began = _fixed(_written(folder))
    for name, value in _fixed(as_written(args)).items():
        if began.get(name, value) != value:
            return name, began[name], value
    return None


def same_budget(args: Arguments, folder: Path) -> bool:
    """Whether the run in the folder was to be as long."""
    before, now = _written(folder)["training"], as_written(args)["training"]
    return all(before.get(name) == now.get(name) for name in BUDGET)


def _fixed(written: Mapping[str, Any]) -> dict[str, Any]:
    """What a resumed run must keep of its arguments.json, by name."""
    free = ("num_validation", "num_test")
    fixed = {name: value for part in PARTS for name, value in written[part].items() if name not in free}
    fixed |= _kept(written["training"])
    fixed |= {f"{CONTENT} of {name}": value for name, value in written.get(CONTENT, {}).items()}
    if PROCESSES in written:  # they share each step's rows
        fixed["num_processes"] = written[PROCESSES]
    if fixed.get("streaming"):  # workers divide a stream; a single one reads as the process itself does
        fixed["dataloader_num_workers"] = written["training"].get("dataloader_num_workers") or 1
    return fixed


def _kept(training: Mapping[str, Any]) -> dict[str, Any]:
    """What must stay, by name, of the `training` of an `Arguments.to_dict()`, which leaves defaults out."""
    names = [field.name for field in dataclasses.fields(RunArguments) if field.name not in FREE]
    names = [name for name in names if not name.startswith(FREE_BEGIN)]
    if training.get("load_best_model_at_end"):  # the figure of the best model so far is one of this metric
        names += ["metric_for_best_model", "greater_is_better"]
    if training.get("curriculum"):  # its sizes rise at evaluations
        names += ["eval_strategy", "eval_steps", "eval_delay", "eval_on_start"]
    return {name: training.get(name, "its default") for name in names}


def as_written(args: Arguments) -> dict[str, Any]:
    """The arguments as arguments.json gives them back."""
    written = {**args.to_dict(), PROCESSES: args.training.world_size}
    if sums := _sums(args):
        written[CONTENT] = sums
    return json.loads(json.dumps(written, default=np.generic.item))


def _sums(args: Arguments) -> dict[str, str]:
    """SHA-256 of what a resumed run reads again, by argument: the files of rows, and the tokenizer of a folder."""
    named = {name: Path(getattr(args.data, name)) for name in args.data.files}
    folders = {name: getattr(args.model, name) for name in ("model", "tokenizer")}
    named |= {name: Path(folder) / "tokenizer.json" for name, folder in folders.items() if from_folder(folder)}
    return {name: sum_of_file(path) for name, path in named.items() if path.is_file()}


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


def check_unfinished(args: Arguments, folder: Path, checkpoint: Path) -> None:
    """ValueError if nothing is left to do: a final test followed the checkpoint, or the budget was another one.

    A budget that training never had would stand in the recipe. The test of an earlier run, gone on from since, does not
    count.
    """
    training, state = args.training, read_object(checkpoint / checkpoint_files.STATE_FILE)
    name, done = ("max_steps", "global_step") if training.max_steps > 0 else ("num_train_epochs", "epoch")
    asked, same, step = getattr(training, name), same_budget(args, folder), state["global_step"]
    results = folder / RESULTS_FILE
    if results.exists() and results.stat().st_mtime >= checkpoint_files.written(checkpoint):
        if same or asked <= state[done]:
            more = "a larger --max_steps or --num_train_epochs, or by another --stop_when_solved"
            ended = f"the run in {str(folder)!r} ended at step {step} and was tested"
            raise ValueError(f"{ended}; give it more to do by {more}.")
    elif not same and asked <= state[done]:
        trained = f"the run in {str(folder)!r} is at step {step}, so {name}={asked:.12g} leaves nothing to train"
        raise ValueError(f"{trained}; give a larger one, or the budget it had.")


def warn_of_another_schedule(args: Arguments, folder: Path) -> None:
    """Of a rate that depends on the budget, which was another before."""
    budgets = [_budget(written["training"]) for written in (_written(folder), as_written(args))]
    kind, warm_up = args.training.lr_scheduler_type.value, args.training.warmup_steps
    if budgets[0] != budgets[1] and (kind not in WITHOUT_END or 0 < warm_up < 1):
        logger.warning(
            "%s began with %s=%s, over which lr_scheduler_type=%s spreads its rates: a run of this recipe from the "
            "start has other rates up to here. A run that begins with lr_scheduler_type=constant_with_warmup can be "
            "given more steps and repeated by its recipe.",
            *(folder, *budgets[0], kind),
        )


def _budget(training: Mapping[str, Any]) -> tuple[str, Any]:
    """What ends a run, of arguments that are written, where defaults are left out."""
    name = "max_steps" if training.get("max_steps", -1) > 0 else "num_train_epochs"
    return name, training.get(name, "its default")
