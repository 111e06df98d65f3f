"""Which training arguments a resumed run must keep: all but those that say how much is trained, where and how watched.

The others would make its last steps otherwise than the first, or a checkpoint brings the earlier value back, and the
recipe would repeat neither. What transformers may yet add is among them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from nt_failures.experiments.run_arguments import RunArguments

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


def kept(training: Mapping[str, Any]) -> dict[str, Any]:
    """What must stay, by name, of the `training` of an `Arguments.to_dict()`, which leaves defaults out."""
    names = [field.name for field in dataclasses.fields(RunArguments) if field.name not in FREE]
    names = [name for name in names if not name.startswith(FREE_BEGIN)]
    if training.get("load_best_model_at_end"):  # the figure of the best model so far is one of this metric
        names += ["metric_for_best_model", "greater_is_better"]
    if training.get("curriculum"):  # its sizes rise at evaluations
        names += ["eval_strategy", "eval_steps", "eval_delay", "eval_on_start"]
    return {name: training.get(name, "its default") for name in names}
