"""Train a stock causal LM on a lookahead task under any objective, and say whether and why it failed.

accelerate launch examples/train.py                                   # the quickstart recipe
accelerate launch examples/train.py --order reversed                  # one change to it
accelerate launch examples/train.py examples/recipes/hybrid.yaml --seed 1

Ctrl-C and SIGTERM save a checkpoint; the same command with --resume goes on from it.
"""

import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase, ProgressCallback, set_seed

import nt_failures as ntf
from nt_failures import arguments, checkpoints, finder, lifeline, models, report, runs
from nt_failures.callbacks import LiveProgressCallback, SampleTableCallback
from nt_failures.data import load_splits
from nt_failures.stopping import StopOnSignal

QUICKSTART = Path(__file__).parent / "recipes" / "quickstart.yaml"


def main(argv: list[str]) -> dict:
    """One run: parse, build, train, evaluate, save, push. Returns what it wrote to results.json."""
    args = arguments.parse(argv, default_recipe=QUICKSTART, prog="examples/train.py")
    task, training = args.task, args.training
    objective_class = finder.find("objectives", args.objective.objective)
    tokenizer = choose_tokenizer(args, objective_class.extra_tokens)
    objective = objective_class.from_tokenizer(
        tokenizer, order=args.objective.order, **args.objective.objective_options
    )

    runs.check_output_dir(args)
    set_seed(training.seed)
    with training.main_process_first(desc="data"):
        rows = load_splits(task, **args.data.knobs())
        splits = {name: ntf.tokenize(split, tokenizer) for name, split in rows.items()}
    longest = runs.longest_sequence(splits["test"])
    model = models.load_model(args.model.model, tokenizer, longest, args.model.config_overrides)
    answer_tokens = len(splits["test"][0]["target_ids"])
    models.set_answer_length(model, answer_tokens, objective.pad_token_id, tokenizer.eos_token_id)

    trainer = ntf.ObjectiveTrainer(
        model,
        training,
        objective=objective,
        task=task,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=tokenizer,
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(LiveProgressCallback)
    if training.sample_rows:
        samples = runs.first_rows(task, "validation", training.sample_rows, args.data.dataset_seed, args.data.overlap)
        callbacks = trainer.callback_handler.callbacks
        trainer.add_callback(SampleTableCallback(tokenizer, objective, task, samples, training.sample_rows, callbacks))
    with runs.claim_output_dir(args) as checkpoint:
        return train(trainer, args, checkpoint, splits["test"])


def train(trainer: ntf.ObjectiveTrainer, args: arguments.Arguments, checkpoint: str | None, test: Dataset) -> dict:
    """Train, test, save, push, while no other process may write into the output folder."""
    training = args.training
    if trainer.is_world_process_zero():
        print(runs.headline(args, trainer.model))

    start = time.monotonic()
    with StopOnSignal() as stop:
        trainer.add_callback(stop)
        trainer.train(resume_from_checkpoint=checkpoint)
        if stop.signal is None:
            trainer.save_model(_internal_call=True)  # without a push: that comes last, when there is something to say
    seconds = time.monotonic() - start
    if stop.signal is not None:
        stopped(trainer, stop.signal)

    asked, training.full_decode = training.full_decode, True  # the final table is read token by token
    metrics = trainer.evaluate(test, metric_key_prefix="test")
    training.full_decode = asked
    results = runs.results(trainer, args, metrics, n=len(test), train_seconds=seconds)
    if trainer.is_world_process_zero():
        runs.write(results, args)
        print(report.summary(results, training.output_dir))
    if training.push_to_hub:
        trainer.push_to_hub()
    else:
        trainer.create_model_card()
    return results


def stopped(trainer: ntf.ObjectiveTrainer, number: int) -> NoReturn:
    """Say where the checkpoint is, and end as a shell expects of a command that a signal ended."""
    if trainer.is_world_process_zero():
        checkpoint = checkpoints.newest_whole(Path(trainer.args.output_dir))
        print(f"stopped at step {trainer.state.global_step:,}; checkpoint saved in {checkpoint}", file=sys.stderr)
        print("the same command with --resume goes on from there", file=sys.stderr)
    sys.exit(128 + number)


def choose_tokenizer(args: arguments.Arguments, extra_tokens: tuple[str, ...]) -> PreTrainedTokenizerBase:
    """The tokenizer that was named, else a checkpoint's own, else the task's word-level one; knows `extra_tokens`."""
    if args.model.tokenizer or not models.from_scratch(args.model.model):
        name = args.model.tokenizer or args.model.model
        models.check_name(name)
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    else:
        tokenizer = ntf.word_level_tokenizer(args.task)
    ntf.add_tokens(tokenizer, extra_tokens)
    return tokenizer


if __name__ == "__main__":
    lifeline.hold()
    try:
        main(sys.argv[1:])
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted; what was saved before stays, and --resume goes on from it", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
