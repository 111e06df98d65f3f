"""Many seeds of one recipe, trained at once in one process: for a GPU, which one small model does not fill.

`python -m nt_failures.experiments.run_seeds RECIPE.yaml --seeds 0 1 --output_dir FOLDER` does what
examples/studies/train_seeds.py does.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, set_seed

from nt_failures.data.splits import load_splits
from nt_failures.data.token_dataset import TokenDataset
from nt_failures.data.tokenizer import tokenize
from nt_failures.experiments import command_line, output_dir, results, run, script
from nt_failures.experiments.arguments import Arguments
from nt_failures.training.callbacks import LiveProgressCallback
from nt_failures.training.many_seeds.loop import check_together, train_together
from nt_failures.training.trainer import ObjectiveTrainer


def main(argv: Sequence[str], description: str | None = __doc__) -> None:
    """All seeds of one recipe: parse, build, train at once, then test and save one seed after the other.

    Raises as `ends`. Where some seeds diverged, the others have finished, and a FloatingPointError names them.
    """
    if diverged := [f"seed {seed}: {error}" for seed, error in ends(argv, description) if error]:
        raise FloatingPointError("; ".join(diverged))


def ends(argv: Sequence[str], description: str | None = __doc__) -> Iterator[tuple[int, FloatingPointError | None]]:
    """The same, seed by seed: yields each as soon as it is tested and saved, or with the error that it diverged with.

    Raises as `run.run`; ValueError, too, for arguments that cannot be trained together.
    """
    all_args = parse(argv, description)
    for args in all_args:
        output_dir.check(args)
    trainers, rows, test = trainers_of(all_args)
    check_together(trainers)
    if not all_args[0].training.disable_tqdm:
        trainers[0].add_callback(LiveProgressCallback)  # one bar for all
    with contextlib.ExitStack() as claims:
        for args in all_args:
            claims.enter_context(output_dir.claim(args))
        run.say(f"{results.headline(all_args[0], trainers[0].model)} and {len(trainers) - 1} more seeds")
        for args, error in zip(all_args, train_and_test(trainers, all_args, rows, test), strict=True):
            yield args.training.seed, error


def parse(argv: Sequence[str], description: str | None) -> list[Arguments]:
    """The arguments of each seed's run."""
    parser = command_line.plain_parser(description)
    parser.add_argument("recipe", help="a recipe; all flags of examples/train.py override it")
    parser.add_argument("--seeds", type=int, nargs="+", required=True, help="which seeds")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for a run folder of each seed")
    asked, extra = parser.parse_known_args(argv)
    if len(set(asked.seeds)) < len(asked.seeds) or "seed" in command_line.flag_names(extra):
        raise ValueError("say with --seeds which seeds there are to be, each once, and leave --seed out.")
    own = [["--seed", str(seed), "--output_dir", str(asked.output_dir / f"seed{seed}")] for seed in asked.seeds]
    all_args = [command_line.parse([asked.recipe, *extra, *flags]) for flags in own]
    if all_args[0].model.lora is not None:
        raise ValueError("lora is not made for many seeds at once; leave it out, or train these seeds as processes.")
    return all_args


def trainers_of(all_args: Sequence[Arguments]) -> tuple[list[ObjectiveTrainer], run.Splits, Dataset]:
    """A Trainer for each seed, all on the same rows; the splits as text, and the tokenised rows of the test."""
    tokenizer, objective = run.choose_tokenizer_and_objective(all_args[0])
    rows = load_splits(all_args[0].task, **all_args[0].data.builder_arguments())
    splits: dict[str, Any] = {name: tokenize(split, tokenizer) for name, split in rows.items()}
    splits["train"] = TokenDataset.of(splits["train"]) or splits["train"]  # one copy in memory for all seeds
    trainers = []
    for args in all_args:
        set_seed(args.training.seed)
        trainers.append(run.make_trainer(args, objective, tokenizer, splits))
        for callback in (ProgressCallback, PrinterCallback):
            trainers[-1].remove_callback(callback)
    return trainers, rows, splits["test"]


def train_and_test(
    trainers: Sequence[ObjectiveTrainer], all_args: Sequence[Arguments], rows: run.Splits, test: Dataset
) -> Iterator[FloatingPointError | None]:
    """Train all at once, then test one after the other; yields with which error each diverged, if it did."""
    start = time.monotonic()
    errors = train_together(trainers)
    seconds = (time.monotonic() - start) / len(trainers)  # a seed's share
    for trainer, args, error in tqdm(list(zip(trainers, all_args, errors, strict=True)), desc="tests", unit="seed"):
        if error is None:
            trainer.save_model(_internal_call=True)  # before results.json, which says that the run is whole
            found = run.final_test(trainer, args, rows, test, seconds)
            trainer.results = dataclasses.replace(found, trained_together=len(trainers))
            results.write(trainer.results, args)
            trainer.create_model_card()
            run.say(results.summary(trainer.results, args.training.output_dir, args.task))
        yield error


if __name__ == "__main__":
    script.run(main)
