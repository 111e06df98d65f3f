"""The arguments of a run, as dataclasses; command_line.py makes them of a recipe and flags."""

import dataclasses
from typing import TYPE_CHECKING, Any

from nt_failures.hub.json_files import portable
from nt_failures.models.families import SCANS
from nt_failures.registry import check_choice
from nt_failures.tasks.base import Task
from nt_failures.tasks.blocks import OVERLAPS, SPLITS, check_integers

if TYPE_CHECKING:  # imports torch
    from nt_failures.training.arguments import ObjectiveTrainingArguments

DTYPES = ("float32", "bfloat16")


def option(text: str, default: Any) -> Any:
    """A field that is a flag, with its help."""
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class DataArguments:
    """Which graphs to train and test on. The task's own parameters (`--degree`, ...) are flags beside these."""

    task: str = option("Task: a file of nt_failures/tasks, or a dotted path to your own class.", "path_star")
    num_train: int = option("Training rows; of a small graph they repeat.", 200_000)
    streaming: bool = option("Draw fresh training rows without end instead of `num_train` fixed ones.", False)
    num_validation: int = option("Held-out rows for the evaluations during training.", 1_000)
    num_test: int = option("Held-out rows for the final table.", 20_000)
    dataset_seed: int = option("Seed of the data; `seed` is the model's and the batches'.", 0)
    overlap: str = option("`forbid`: splits share no instance; `allow`: as the paper's released code.", "forbid")
    train_file: str | None = option("Train on the first `num_train` lines of this file in place of drawn rows.", None)
    validation_file: str | None = option("The same for the evaluations during training.", None)
    test_file: str | None = option("The same for the final table.", None)

    def __post_init__(self) -> None:
        check_integers(self, num_train=1, num_validation=1, num_test=1, dataset_seed=0)
        check_choice("overlap", self.overlap, OVERLAPS)

    def builder_arguments(self) -> dict[str, Any]:
        """The keyword arguments of `data.load_splits`."""
        fields = dataclasses.asdict(self)
        files = {split: fields.pop(f"{split}_file") for split in SPLITS}
        drawn = {name: fields[name] for name in fields if name not in ("task", "dataset_seed")}
        return {"seed": self.dataset_seed, "files": files, **drawn}

    @property
    def files(self) -> list[str]:
        """The fields that name a file."""
        return [name for split in SPLITS if getattr(self, name := f"{split}_file") is not None]


@dataclasses.dataclass(frozen=True)
class ModelArguments:
    """Which model. JSON fields are strings on the command line, mappings in a recipe, and mappings once parsed."""

    model: str = option("FAMILY-LAYERSxWIDTH from scratch (gpt2-4x64, mamba-2x32), or a folder or Hub id.", "gpt2-4x64")
    config_overrides: str = option("Fields of the model's config, as JSON: '{\"n_inner\": 64}'.", "{}")
    tokenizer: str | None = option("Folder or Hub id; default: the model's own, or word-level from scratch.", None)
    mamba_scan: str = option(
        "Mamba-1's scan: `auto` (mamba-ssm's kernels, `torch` where they are missing), `torch` (this library's, "
        "exact), or `transformers` (its own).",
        "auto",
    )
    attn_implementation: str | None = option(
        "`eager`, `sdpa`, `flash_attention_2`, ...; default: the model's own.", None
    )
    dtype: str = option(
        "Of the weights: `float32` or `bfloat16`; --bf16 computes in bfloat16 beside float32 weights.", "float32"
    )
    lora: str | None = option("Train a LoRA adapter: fields of peft's LoraConfig as JSON, '{\"r\": 8}'.", None)
    merge_adapter: bool = option("At the end merge the adapter into the weights and save a whole, stock model.", False)

    def __post_init__(self) -> None:
        check_choice("mamba_scan", self.mamba_scan, SCANS)
        check_choice("dtype", self.dtype, DTYPES)
        if self.merge_adapter and self.lora is None:
            raise ValueError("merge_adapter has no adapter to merge; give --lora '{}', or leave it out.")


@dataclasses.dataclass(frozen=True)
class ObjectiveArguments:
    """How the model is trained."""

    objective: str = option("A file of nt_failures/objectives, or a dotted path to your own class.", "next_token")
    order: str = option("`forward`, or `reversed` to train on the target from its end.", "forward")
    objective_options: str = option("The objective's other options, as JSON.", "{}")


@dataclasses.dataclass
class RunOptions:
    """How a run of examples/train.py behaves, beside the training arguments."""

    sample_rows: int = option("Sample predictions shown at every evaluation; 0 for none.", 3)
    overwrite_output_dir: bool = option("Replace an earlier run in output_dir.", False)
    stop_when_solved: int = option("End after so many evaluations in a row at 0.95 or more; 0: never.", 0)
    curriculum: str | None = option("Range of the task (`path_length`) whose upper end rises as it is learnt.", None)
    resume: bool = option("Go on from the newest whole checkpoint in output_dir; begin where there is none.", False)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """One run, parsed."""

    task: Task
    data: DataArguments
    model: ModelArguments
    objective: ObjectiveArguments
    training: "ObjectiveTrainingArguments"
    """a RunArguments, whose module imports this one"""
    given: list[str]
    """names of what the recipe and the flags set"""
    notes: list[str]
    """what the flags kept and dropped of the recipe, in words"""

    def to_dict(self) -> dict[str, Any]:
        """The run, JSON-ready: the task's parameters, our arguments, and of TrainingArguments what is no default.

        Output folder, names and token are no part of it; of an absolute path only the last name is.
        """
        from nt_failures.training.budget import changed_arguments  # imports torch

        parts = {"data": self.data, "model": self.model, "objective": self.objective}
        plain = {name: portable(dataclasses.asdict(part)) for name, part in parts.items()}
        return {"task": dataclasses.asdict(self.task), **plain, "training": changed_arguments(self.training)}
