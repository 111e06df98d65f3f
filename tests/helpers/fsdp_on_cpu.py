"""FSDP 2 over gloo: what tests/training/test_fsdp.py starts with `accelerate launch --config_file .../fsdp2.yaml`; no
test itself."""

import gc
import json
import os
import runpy
import sys
from pathlib import Path

import datasets
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from nt_failures.data.tokenizer import word_level_tokenizer
from nt_failures.models.load import load_model
from nt_failures.objectives import find_objective
from nt_failures.tasks.path_star import PathStar
from nt_failures.training import divergence
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.trainer import ObjectiveTrainer

TASK = PathStar(2, 3, 10)
STEPS, ROWS = 3, 8
RUNS = {
    "next_token": ("next_token", "adamw"),
    "belief_state": ("belief_state", "muon"),
    "semformer": ("semformer", "muon"),
}
"""Objective and optimizer of each; all but the first have modules of their own, which are sharded with the model."""
EXAMPLE = Path(__file__).parents[2] / "examples" / "train.py"
TINY = [
    *("--degree", "2", "--path_length", "3", "--num_nodes", "10", "--num_train", "32", "--num_validation", "5"),
    *("--num_test", "9", "--model", "gpt2-1x16", "--max_steps", "1", "--eval_steps", "1", "--objective", "future_bag"),
    *("--per_device_train_batch_size", "8", "--per_device_eval_batch_size", "4", "--disable_tqdm", "true"),
]


def shard_on_cpus():
    """Make accelerate shard on CPUs, too: it knows processes on CPUs as DDP only, whatever its config file says."""
    plain = AcceleratorState.__init__

    def init(self, *args, **kwargs):
        plain(self, *args, **kwargs)
        plugin = kwargs.get("fsdp_plugin") or self.__dict__.get("fsdp_plugin")
        if plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, plugin
            if self._mixed_precision != "no" and plugin.mixed_precision_policy is None:
                plugin.set_mixed_precision(self._mixed_precision)

    AcceleratorState.__init__ = init


def rows():
    """24 tokenised rows, no two alike."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 10, (24, 9), generator=generator).tolist()
    found = [{"prefix_ids": row[:6], "target_ids": row[6:], "target_positions": [1, 2, 3]} for row in ids]
    return datasets.Dataset.from_list(found)


def build(folder, objective, optimizer, **options):
    """A trainer that takes 8 rows a step, over however many processes there are."""
    torch.manual_seed(0)
    tokenizer = word_level_tokenizer(TASK)
    model = load_model("gpt2-2x16", tokenizer, 32, config_overrides={"initializer_range": 0.3})
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    args = ObjectiveTrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        optimizer=optimizer,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        max_steps=STEPS,
        per_device_train_batch_size=ROWS // processes,
        per_device_eval_batch_size=4,
        logging_steps=1,
        save_strategy="steps",
        save_steps=2,
        disable_tqdm=True,
        report_to=[],
        **options,
    )
    found = find_objective(objective).from_tokenizer(tokenizer)
    return ObjectiveTrainer(model, args, objective=found, task=TASK, train_dataset=rows(), processing_class=tokenizer)


def record(trainer):
    """Losses of the steps, and of an evaluation of 5 rows, which no two processes can share evenly."""
    trainer.train()
    metrics = trainer.evaluate(rows().select(range(5)))
    trainer.save_model()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"losses": losses, "metrics": {k: v for k, v in metrics.items() if "/" in k or k == "eval_loss"}}


def poisoned(trainer):
    """Whether the weights count as finite once a shard of the second process alone holds a NaN."""
    if trainer.args.process_index == 1:
        with torch.no_grad():
            next(trainer.model.parameters()).to_local()[0, 0] = torch.nan
    return divergence.finite(trainer.model, trainer.accelerator)


def main(folder):
    """Train, resume what is named so, and run the example; one file of results for each process."""
    torch.set_num_threads(1)
    gc.freeze()  # as in conftest.py
    shard_on_cpus()
    found = {}
    for name, (objective, optimizer) in RUNS.items():
        trainer = build(folder / name, objective, optimizer)
        found[name] = record(trainer)
        again = build(folder / name, objective, optimizer, save_total_limit=1)
        again.train(resume_from_checkpoint=str(folder / name / "checkpoint-2"))
        found[name]["resumed"] = [entry["loss"] for entry in again.state.log_history if "loss" in entry]
    found["world"] = [trainer.args.world_size, str(trainer.accelerator.distributed_type), trainer.accelerator.is_fsdp2]
    found["finite"] = [divergence.finite(trainer.model, trainer.accelerator), poisoned(trainer)]
    try:
        build(folder / name, objective, optimizer).train(
            resume_from_checkpoint=str(folder / name / f"checkpoint-{STEPS}")
        )
    except ValueError as error:
        found["finished"] = str(error)
    (folder / f"{trainer.args.process_index}.json").write_text(json.dumps(found), encoding="utf-8")
    runpy.run_path(str(EXAMPLE))["main"]([*TINY, "--output_dir", str(folder / "example")])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
