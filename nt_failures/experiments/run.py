"""One run, from its arguments to its results: build, train, test, save and push.

`python -m nt_failures.experiments.run --recipe quickstart` does what examples/train.py does, also without a clone.
"""

import functools
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase, ProgressCallback, set_seed

from nt_failures.data.columns import to_columns
from nt_failures.data.splits import load_splits
from nt_failures.data.tokenizer import add_tokens, task_tokenizer, tokenize
from nt_failures.experiments import command_line, earlier_run, output_dir, results, script
from nt_failures.experiments.arguments import Arguments
from nt_failures.hub.run_results import RunResults
from nt_failures.models import lora, mamba_scan
from nt_failures.models.families import from_folder, from_scratch
from nt_failures.models.load import check_size, load_model, load_tokenizer, set_answer_length
from nt_failures.objectives import Objective, auxiliary_modules, find_objective
from nt_failures.registry import plural
from nt_failures.training import checkpoint_files
from nt_failures.training.arguments import launch_note
from nt_failures.training.callbacks import LiveProgressCallback, OnFirstStep, SampleTableCallback, StopWhenSolved
from nt_failures.training.curriculum import Curriculum
from nt_failures.training.seeded_collator import SeededCollator
from nt_failures.training.stop_on_signal import StopOnSignal
from nt_failures.training.trainer import ObjectiveTrainer

MODULE = "-m nt_failures.experiments.run"
Splits = Mapping[str, Dataset | IterableDataset]


def main(argv: Sequence[str]) -> RunResults:
    """Parse a command line and run it. Returns what stands in results.json, but for the sum of the weights."""
    return run(command_line.parse(argv, prog=f"python {MODULE} [RECIPE.yaml | --recipe NAME]"))


def run(args: Arguments, program: str = MODULE) -> RunResults:
    """Build, train, test, save, push. Returns what stands in results.json.

    ValueError, before anything is written, for arguments that do not fit each other, the data or the output folder;
    FloatingPointError where the training diverged; SystemExit where a signal stopped it, with a checkpoint saved.
    `program` is what `torchrun` is to start, for those who asked for several processes and got one.
    """
    if note := launch_note(program, args.training.world_size):
        sys.stderr.write(f"{note}\n")
    set_seed(args.training.seed)
    tokenizer, objective = choose_tokenizer_and_objective(args)
    output_dir.check(args)  # last, for who mends this flag is not to meet the mistakes in the others
    with args.training.main_process_first(desc="data"):
        rows = load_splits(args.task, **args.data.builder_arguments())
        splits = {name: tokenize(split, tokenizer) for name, split in rows.items()}
    trainer = make_trainer(args, objective, tokenizer, splits)
    show_progress(trainer, args, rows["validation"])
    tell = say if trainer.is_world_process_zero() else lambda text: None
    with output_dir.claim(args) as checkpoint:
        tell("\n".join(filter(None, (results.headline(args, trainer.model), mamba_scan.running(trainer.model)))))
        if args.training.resume:
            tell(f"goes on from {Path(checkpoint).name}" if checkpoint else "no checkpoint is there: begins at step 0")
        seconds = train(trainer, checkpoint, merge=args.model.merge_adapter)
        tell(f"testing on {plural(len(splits['test']), 'test instance')}")
        trainer.results = final_test(trainer, args, rows, splits["test"], seconds)
        if trainer.is_world_process_zero():
            results.write(trainer.results, args)
        tell(results.summary(trainer.results, args.training.output_dir, args.task, trainer.state.global_step))
        if args.training.push_to_hub:
            trainer.push_to_hub()
        else:
            trainer.create_model_card()
    return trainer.results


def choose_tokenizer_and_objective(args: Arguments) -> tuple[PreTrainedTokenizerBase, Objective]:
    """The tokenizer that was named, else a checkpoint's own, else the task's; and the objective for it.

    ValueError for overrides, an adapter or options that are not taken; OSError for a tokenizer that is out of reach.
    """
    check_size(args.model.model, args.model.config_overrides)
    lora.check(args.model.lora, args.model.model, args.model.config_overrides, args.model.merge_adapter)
    adapter = args.model.lora is not None and not args.model.merge_adapter
    if args.training.push_to_hub and adapter and from_folder(args.model.model):
        raise ValueError(
            f"push_to_hub would publish an adapter of {args.model.model!r}, of no use on the Hub, where that is "
            "missing; give --merge_adapter true, which saves a whole model."
        )
    objective_class = find_objective(args.objective.objective)
    if args.model.tokenizer or not from_scratch(args.model.model):
        tokenizer = load_tokenizer(args.model.tokenizer or args.model.model)
    else:
        tokenizer = task_tokenizer(args.task)
    add_tokens(tokenizer, objective_class.extra_tokens)
    if "order" in args.objective.objective_options:
        raise ValueError(
            "objective_options gives an order, which is a flag of its own; write --order, and leave it out."
        )
    options = {"order": args.objective.order, **args.objective.objective_options}
    return tokenizer, objective_class.from_tokenizer(tokenizer, **options)


def make_trainer(
    args: Arguments, objective: Objective, tokenizer: PreTrainedTokenizerBase, splits: Splits
) -> ObjectiveTrainer:
    """The model, a new one with random weights as torch's generator stands, and the Trainer around it."""
    # What cannot be trained on is said before a folder is cleared, and no random number is drawn for it.
    SeededCollator(objective.collate, args.training.seed)(list(itertools.islice(splits["train"], 64)))
    chosen = args.model
    longest, answer_tokens = results.longest_sequence(splits, new=from_scratch(chosen.model))
    longest += objective.added_columns(answer_tokens)
    options = {"dtype": chosen.dtype}
    if chosen.attn_implementation is not None:
        options["attn_implementation"] = chosen.attn_implementation
    model = load_model(chosen.model, tokenizer, longest, chosen.config_overrides, chosen.mamba_scan, **options)
    if chosen.lora is not None:
        ids = [getattr(objective, name) for name in objective.extra_tokens.values()]
        lora.add(model, chosen.lora, ids, chosen.config_overrides)
    set_answer_length(model, answer_tokens, objective.pad_token_id, tokenizer.eos_token_id)
    sets = {"train_dataset": splits["train"], "eval_dataset": splits["validation"], "processing_class": tokenizer}
    trainer = ObjectiveTrainer(model, args.training, objective=objective, task=args.task, **sets)
    if args.training.curriculum:
        trainer.curriculum = Curriculum(trainer, args.training.curriculum)
        trainer.add_callback(trainer.curriculum)
    if trainer.is_world_process_zero():
        trainer.add_callback(OnFirstStep(functools.partial(earlier_run.forget, Path(args.training.output_dir))))
    if args.training.stop_when_solved:
        trainer.add_callback(StopWhenSolved(trainer, args.training.stop_when_solved, objective.trained_positions))
    return trainer


def show_progress(trainer: ObjectiveTrainer, args: Arguments, validation: Dataset) -> None:
    """A bar with the live accuracy, and sample predictions at every evaluation."""
    if not args.training.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(LiveProgressCallback)
    if shown := args.training.sample_rows:
        rows = to_columns(validation.select(range(min(shown, len(validation)))))
        trainer.add_callback(SampleTableCallback(trainer, rows))


def train(trainer: ObjectiveTrainer, checkpoint: str | None, merge: bool = False) -> float:
    """Train, merge an adapter if asked, save the model; the seconds that took. A signal ends the program."""
    start = time.monotonic()
    with StopOnSignal() as stop:
        trainer.add_callback(stop)
        trainer.train(resume_from_checkpoint=checkpoint)
        if stop.signal is None:
            if merge:
                lora.merge(auxiliary_modules.unwrap_model(trainer.model))
            trainer.save_model(_internal_call=True)  # without a push: that comes last, when there is something to say
    if stop.signal is not None:
        end_stopped(trainer, stop.signal)
    return time.monotonic() - start


def final_test(trainer: ObjectiveTrainer, args: Arguments, rows: Splits, test: Dataset, seconds: float) -> RunResults:
    """The results after `seconds` of training; `rows` are the splits as text, `test` that split tokenised."""
    asked, args.training.full_decode = args.training.full_decode, True  # the final table is read token by token
    metrics = trainer.evaluate(test, metric_key_prefix="test")
    args.training.full_decode = asked
    return results.results(trainer, args, rows, metrics, seconds)


def end_stopped(trainer: ObjectiveTrainer, number: int) -> NoReturn:
    """Say where the checkpoint is, and end as a shell expects of a command that a signal ended."""
    if trainer.is_world_process_zero():
        goes_on = "the same command with --resume goes on from there"
        if trainer.args.save_only_model:
            goes_on = "it holds the model alone (--save_only_model), so training cannot go on from there"
        where = checkpoint_files.newest_whole(Path(trainer.args.output_dir))
        at = f"stopped at step {trainer.state.global_step:,}"
        sys.stderr.write(f"{at}; checkpoint saved in {where}\n{goes_on}\n")
    sys.exit(128 + number)


def say(text: str) -> None:
    """Show the user a result, on standard output: notes and warnings go to standard error, or are logged."""
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    script.run(main, script.KEPT)
