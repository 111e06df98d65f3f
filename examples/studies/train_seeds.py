"""Train many seeds of one recipe at once in one process: for a GPU, which one small model does not fill.

python examples/studies/train_seeds.py examples/recipes/hybrid.yaml --seeds 0 1 2 3 --output_dir outputs/hybrid-seeds

Each seed gets the result that examples/train.py gives it alone, within floating-point noise, and a run folder of its own,
`OUTPUT_DIR/seedN`. On a CPU run processes instead: examples/studies/reproduce.py --jobs.
"""

import argparse
import contextlib
import signal
import sys
import time
from pathlib import Path

import datasets
import train
from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, set_seed

import nt_failures as ntf
from nt_failures.data import child_processes
from nt_failures.data.splits import load_splits
from nt_failures.data.token_dataset import TokenDataset
from nt_failures.experiments import arguments, command_line, output_dir
from nt_failures.experiments import results as runs
from nt_failures.training import divergence
from nt_failures.training.many_seeds import train_together
from nt_failures.training.many_seeds.checks import check_together


class Bar(TrainerCallback):
    """One progress bar for all seeds; put into one of their Trainers."""

    def __init__(self, seeds: int):
        self.seeds, self.bar = seeds, None

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.bar = tqdm(total=state.max_steps, desc=f"{self.seeds} seeds", unit="step", disable=args.disable_tqdm)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.bar.update()

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.bar.close()


def main(argv: list[str]) -> None:
    """All seeds of one recipe: parse, build, train at once, then test and save one seed after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("recipe", help="a recipe; all flags of examples/train.py override it")
    parser.add_argument("--seeds", type=int, nargs="+", required=True, help="which seeds")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for a run folder of each seed")
    asked, extra = parser.parse_known_args(argv)
    if len(set(asked.seeds)) < len(asked.seeds) or any(flag.split("=")[0] == "--seed" for flag in extra):
        raise ValueError("say with --seeds which seeds there are to be, each once, and leave --seed out.")
    all_args = [
        command_line.parse(
            [asked.recipe, *extra, "--seed", str(seed), "--output_dir", str(asked.output_dir / f"seed{seed}")]
        )
        for seed in asked.seeds
    ]
    if all_args[0].model.lora is not None:
        raise ValueError("lora is not made for many seeds at once; leave it out, or train these seeds as processes.")
    for args in all_args:
        output_dir.check(args)
    trainers, rows, test = trainers_of(all_args)
    check_together(trainers)
    trainers[0].add_callback(Bar(len(trainers)))
    with contextlib.ExitStack() as claims:
        for args in all_args:
            claims.enter_context(output_dir.claim(args))
        print(runs.headline(all_args[0], trainers[0].model), f"and {len(trainers) - 1} more seeds")
        errors = train_and_test(trainers, all_args, rows, test)
    diverged = [f"seed {s}: {error}" for s, error in zip(asked.seeds, errors, strict=True) if error is not None]
    if diverged:
        raise FloatingPointError("; ".join(diverged))


def train_and_test(
    trainers: list[ntf.ObjectiveTrainer], all_args: list[arguments.Arguments], rows: dict, test: datasets.Dataset
) -> list[FloatingPointError | None]:
    """Train all at once, then test one after the other; with which error each diverged, if it did."""
    start = time.monotonic()
    errors = train_together(trainers)
    seconds = (time.monotonic() - start) / len(trainers)  # a seed's share
    for trainer, args, error in tqdm(list(zip(trainers, all_args, errors, strict=True)), desc="tests", unit="seed"):
        if error is None:
            finish(trainer, args, rows, test, seconds, len(trainers))
    return errors


def trainers_of(all_args: list[arguments.Arguments]) -> tuple[list[ntf.ObjectiveTrainer], dict, datasets.Dataset]:
    """A Trainer for each seed, all on the same rows; and the rows of the final test."""
    args = all_args[0]
    tokenizer, objective = train.choose_tokenizer_and_objective(args)
    rows = load_splits(args.task, **args.data.knobs())
    splits = {name: ntf.tokenize(s, tokenizer) for name, s in rows.items()}
    splits["train"] = TokenDataset.of(splits["train"]) or splits["train"]  # one copy in memory for all seeds
    trainers = []
    for each in all_args:
        set_seed(each.training.seed)
        trainers.append(train.make_trainer(each, objective, tokenizer, splits))
        for callback in (ProgressCallback, PrinterCallback):
            trainers[-1].remove_callback(callback)
    return trainers, rows, splits["test"]


def finish(
    trainer: ntf.ObjectiveTrainer,
    args: arguments.Arguments,
    rows: dict,
    test: datasets.Dataset,
    seconds: float,
    together: int,
) -> None:
    """What examples/train.py does behind the training; a folder that has results.json has a whole model, too."""
    trainer.save_model(_internal_call=True)
    asked, args.training.full_decode = args.training.full_decode, True
    metrics = trainer.evaluate(test, metric_key_prefix="test")
    args.training.full_decode = asked
    results = runs.results(trainer, args, rows, metrics, seconds)
    runs.write(results | {"trained_together": together}, args)
    trainer.create_model_card()


if __name__ == "__main__":
    child_processes.hold()
    try:
        main(sys.argv[1:])
    except FloatingPointError as error:  # the other seeds have finished
        print(f"error: {error}", file=sys.stderr)
        sys.exit(divergence.EXIT_CODE)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
