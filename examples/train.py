"""Train a stock causal LM on a lookahead task under any objective, and say whether and why it failed.

accelerate launch examples/train.py                                   # the quickstart recipe
accelerate launch examples/train.py --order reversed                  # one change to it
accelerate launch examples/train.py examples/recipes/hybrid.yaml --seed 1

Ctrl-C and SIGTERM save a checkpoint; the same command with --resume goes on from it.
"""

import itertools
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from nt_failures.experiments import arguments, command_line
from nt_failures.objectives import find_objective

QUICKSTART = Path(__file__).parent / "recipes" / "quickstart.yaml"

# Answered before torch is imported, which takes seconds.
if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv):
    command_line.parse(sys.argv[1:], default_recipe=QUICKSTART, prog="examples/train.py [RECIPE.yaml]")

from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase, ProgressCallback, set_seed

import nt_failures as ntf
from nt_failures.data import child_processes
from nt_failures.data.splits import load_splits
from nt_failures.experiments import output_dir
from nt_failures.experiments import results as runs
from nt_failures.models import lora, mamba_scan
from nt_failures.models.families import from_scratch
from nt_failures.models.load import load_model, load_tokenizer, set_answer_length
from nt_failures.objectives import auxiliary_modules
from nt_failures.training import checkpoint_files, divergence
from nt_failures.training.arguments import launch_note
from nt_failures.training.callbacks import LiveProgressCallback, SampleTableCallback, StopOnSignal, StopWhenSolved
from nt_failures.training.seeded_collator import SeededCollator


def main(argv: list[str]) -> dict:
    """One run: parse, build, train, evaluate, save, push. Returns what it wrote to results.json."""
    args = command_line.parse(argv, default_recipe=QUICKSTART, prog="examples/train.py")
    if note := launch_note("examples/train.py", args.training.world_size):
        print(note, file=sys.stderr)
    output_dir.check(args)
    lora.check(args.model.lora, args.model.model, args.model.config_overrides, args.model.merge_adapter)
    set_seed(args.training.seed)
    tokenizer, objective = choose_tokenizer_and_objective(args)
    with args.training.main_process_first(desc="data"):
        rows = load_splits(args.task, **args.data.knobs())
        splits = {name: ntf.tokenize(split, tokenizer) for name, split in rows.items()}
    trainer = make_trainer(args, objective, tokenizer, splits)
    show_progress(trainer, args)
    with output_dir.claim(args) as checkpoint:
        if trainer.is_world_process_zero():
            print(runs.headline(args, trainer.model))
            if scan := mamba_scan.running(trainer.model):
                print(scan)
        seconds = train(trainer, checkpoint, merge=args.model.merge_adapter)
        return finish(trainer, args, rows, splits["test"], seconds)


def choose_tokenizer_and_objective(args: arguments.Arguments) -> tuple[PreTrainedTokenizerBase, ntf.Objective]:
    """The tokenizer that was named, else a checkpoint's own, else the task's word-level one; and the objective for it."""
    objective_class = find_objective(args.objective.objective)
    if args.model.tokenizer or not from_scratch(args.model.model):
        tokenizer = load_tokenizer(args.model.tokenizer or args.model.model)
    else:
        tokenizer = ntf.word_level_tokenizer(args.task)
    ntf.add_tokens(tokenizer, objective_class.extra_tokens)
    options = {"order": args.objective.order, **args.objective.objective_options}
    return tokenizer, objective_class.from_tokenizer(tokenizer, **options)


def make_trainer(
    args: arguments.Arguments,
    objective: ntf.Objective,
    tokenizer: PreTrainedTokenizerBase,
    splits: Mapping[str, Dataset | IterableDataset],
) -> ntf.ObjectiveTrainer:
    """The model, a new one with random weights as torch's generator stands, and the Trainer around it."""
    # What cannot be trained on is said before a folder is cleared, and no random number is drawn for it.
    SeededCollator(objective.collate, args.training.seed)(list(itertools.islice(splits["train"], 64)))
    longest = runs.longest_sequence(splits["test"])
    attention = args.model.attn_implementation
    kernels = {} if attention is None else {"attn_implementation": attention}
    model = load_model(
        args.model.model,
        tokenizer,
        longest,
        args.model.config_overrides,
        args.model.mamba_scan,
        dtype=args.model.dtype,
        **kernels,
    )
    if args.model.lora is not None:
        tokens = [] if objective.dummy_token_id is None else [objective.dummy_token_id]
        lora.add(model, args.model.lora, tokens, args.model.config_overrides)
    answer_tokens = max(map(len, splits["test"]["target_ids"]))
    set_answer_length(model, answer_tokens, objective.pad_token_id, tokenizer.eos_token_id)
    trainer = ntf.ObjectiveTrainer(
        model,
        args.training,
        objective=objective,
        task=args.task,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=tokenizer,
    )
    if args.training.stop_when_solved:
        trainer.add_callback(StopWhenSolved(args.training.stop_when_solved, objective.trained_positions))
    return trainer


def show_progress(trainer: ntf.ObjectiveTrainer, args: arguments.Arguments) -> None:
    """A bar with the live accuracy, and sample predictions at every evaluation."""
    if not args.training.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(LiveProgressCallback)
    if shown := args.training.sample_rows:
        rows = runs.first_rows(args.task, "validation", shown, args.data.dataset_seed, args.data.overlap)
        trackers = trainer.callback_handler.callbacks
        tokenizer, objective = trainer.processing_class, trainer.objective
        trainer.add_callback(SampleTableCallback(tokenizer, objective, args.task, rows, shown, trackers))


def train(trainer: ntf.ObjectiveTrainer, checkpoint: str | None, merge: bool = False) -> float:
    """Train, merge an adapter if asked, and save the model; the seconds that took. A signal ends the program behind a checkpoint."""
    start = time.monotonic()
    with StopOnSignal() as stop:
        trainer.add_callback(stop)
        trainer.train(resume_from_checkpoint=checkpoint)
        if stop.signal is None:
            if merge:
                lora.merge(auxiliary_modules.unwrap_model(trainer.model))
            trainer.save_model(_internal_call=True)  # without a push: that comes last, when there is something to say
    if stop.signal is not None:
        stopped(trainer, stop.signal)
    return time.monotonic() - start


def finish(
    trainer: ntf.ObjectiveTrainer, args: arguments.Arguments, rows: Mapping[str, Dataset], test: Dataset, seconds: float
) -> dict:
    """Test, write the results, show them, push."""
    asked, args.training.full_decode = args.training.full_decode, True  # the final table is read token by token
    metrics = trainer.evaluate(test, metric_key_prefix="test")
    args.training.full_decode = asked
    results = runs.results(trainer, args, rows, metrics, seconds)
    if trainer.is_world_process_zero():
        runs.write(results, args)
        print(runs.summary(results, args.training.output_dir))
    if args.training.push_to_hub:
        trainer.push_to_hub()
    else:
        trainer.create_model_card()
    return results


def stopped(trainer: ntf.ObjectiveTrainer, number: int) -> NoReturn:
    """Say where the checkpoint is, and end as a shell expects of a command that a signal ended."""
    if trainer.is_world_process_zero():
        checkpoint = checkpoint_files.newest_whole(Path(trainer.args.output_dir))
        print(f"stopped at step {trainer.state.global_step:,}; checkpoint saved in {checkpoint}", file=sys.stderr)
        alone = "it holds the model alone (--save_only_model), so training cannot go on from there"
        goes_on = "the same command with --resume goes on from there"
        print(alone if trainer.args.save_only_model else goes_on, file=sys.stderr)
    sys.exit(128 + number)


if __name__ == "__main__":
    child_processes.hold()
    try:
        main(sys.argv[1:])
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(divergence.EXIT_CODE)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(
            "interrupted; what was saved before stays, and --resume goes on from a checkpoint among it", file=sys.stderr
        )
        sys.exit(128 + signal.SIGINT)
