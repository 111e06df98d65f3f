"""A run in words before it starts, and its results afterwards: what was measured, how and with what."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedModel

from nt_failures.data.columns import to_columns
from nt_failures.data.token_dataset import TokenDataset
from nt_failures.diagnosis.diagnose import diagnose_observed
from nt_failures.diagnosis.report import paragraph, position_table, throughput_line
from nt_failures.evaluation.observations import Observations
from nt_failures.evaluation.prediction import score
from nt_failures.evaluation.predictor import ModelPredictor
from nt_failures.evaluation.reading import forced_symbols, read_symbols, texts_of
from nt_failures.experiments.arguments import Arguments
from nt_failures.hub.environment import hardware, versions
from nt_failures.hub.integrity import sum_of_weights
from nt_failures.hub.json_files import write_json
from nt_failures.hub.recipe import recipe_text
from nt_failures.hub.run_files import RECIPE_FILE, RESULTS_FILE, RUN_FILE
from nt_failures.hub.run_results import RunResults
from nt_failures.models.families import from_folder
from nt_failures.objectives import auxiliary_modules
from nt_failures.registry import plural
from nt_failures.tasks._sources import definition
from nt_failures.tasks.base import Task
from nt_failures.training.budget import budget_of, learning_curve, seen_all
from nt_failures.training.gradient_shares import logged_gradients
from nt_failures.training.trainer import ObjectiveTrainer

TRAIN_ROWS = 2000
"""Training instances on which the decision is measured; of the test split all rows are."""


LOOKED_AT = 1000
"""Rows of a stream that are looked at to tell how long rows are."""


def longest_sequence(splits: Mapping[str, datasets.Dataset | datasets.IterableDataset], new: bool) -> tuple[int, int]:
    """Tokens of the longest prefix and the longest target together, and of the longest target alone.

    Of the tokenised rows of all splits; a batch is decoded to the length of its longest target, behind any prefix.
    For a `new` model and rows that differ in length, the first has room for a stream's later rows, and for prompts with
    a wrong start; a checkpoint has the positions that it has.
    """
    sets = [split.source if isinstance(split, TokenDataset) else split for split in splits.values()]
    streams = [split for split in sets if isinstance(split, datasets.IterableDataset)]
    tables = [split.with_format("arrow")[:] for split in sets if split not in streams]
    tables += [pa.Table.from_pylist(list(stream.take(LOOKED_AT))) for stream in streams]
    sizes = [[pc.list_value_length(table[name]) for name in ("prefix_ids", "target_ids")] for table in tables]
    answer = max(pc.max(target).as_py() for _, target in sizes)
    longest = max(pc.max(prefix).as_py() for prefix, _ in sizes) + answer
    shortest = min(pc.min(pc.add(prefix, target)).as_py() for prefix, target in sizes)
    return (2 * longest - shortest if new else longest), answer


def headline(args: Arguments, model: PreTrainedModel) -> str:
    """What is about to run, in two lines, and between them what the flags kept and dropped of the recipe."""
    size = f"{args.model.model}: {type(model).__name__}, {auxiliary_modules.stock_parameters(model):,} parameters"
    if args.model.lora is not None:
        size += f", {model.num_parameters(only_trainable=True):,} of them trained"
    options = ", ".join(f"{name}={value}" for name, value in args.objective.objective_options.items())
    objective = f"{args.objective.objective}{options and f' ({options})'}, {args.objective.order} order"
    what = f"{args.task}: {objective}, seed {args.training.seed}"
    return "\n".join([what, *args.notes, f"{size} -> {args.training.output_dir}"])


def results(
    trainer: ObjectiveTrainer,
    args: Arguments,
    rows: Mapping[str, datasets.Dataset | datasets.IterableDataset],
    metrics: Mapping[str, float],
    train_seconds: float,
) -> RunResults:
    """Everything a later table needs: metrics, diagnosis, budget, arguments, versions, learning curve.

    `rows` are the splits as text and columns; `metrics` is what `trainer.evaluate` has just given for all rows of
    `test`, with the prefix `test_` and `full_decode`.
    """
    observed = observations(trainer, args, rows["test"])
    budget, curve = budget_of(trainer), learning_curve(trainer.state.log_history)
    seen = None  # the model on the first training rows, if it has seen each of them; a stream has no end
    if not args.data.streaming and seen_all(budget.examples, len(rows["train"]), vars(args.training)):
        train = to_columns(rows["train"].select(range(min(len(rows["train"]), TRAIN_ROWS))))
        seen = Observations(observed.predictor, args.task, train)
    diagnosis = diagnose_observed(observed, seen, curve, budget)
    if args.data.overlap == "allow":
        said = diagnosis["verdict"]["text"].replace("held-out", "test")
        diagnosis["verdict"]["text"] = f"{said} Test rows may be rows of train, as overlap=allow keeps none apart."
    return RunResults(
        metrics={name.removeprefix("test_"): v for name, v in metrics.items() if name.startswith("test_")},
        n=observed.n(),
        rows=len(observed.answers),
        chance=observed.chance,
        decision_position=observed.decision,
        trained_positions=trainer.training_objective.trained_positions,
        judged_decoding=trainer.training_objective.judged_decoding,
        diagnosis=diagnosis,
        example=observed.example(),
        instance={name: rows["test"][0][name] for name in ("prompt", "completion")},
        **dataclasses.asdict(budget),
        train_seconds=round(train_seconds, 1),
        resumed_at=trainer.resumed_at,
        throughput=trainer.throughput,
        parameters=auxiliary_modules.stock_parameters(trainer.model),
        learning_curve=curve,
        gradient_shares=logged_gradients(trainer.state),
        arguments=args.to_dict(),
        local=[*_from_folders(args), *args.data.files],
        versions={
            **versions(),
            "task": definition(type(args.task)),
            "objective": definition(type(trainer.training_objective)),
        },
        hardware=hardware(trainer.args.device),
    )


def _from_folders(args: Arguments) -> list[str]:
    """The arguments that name a folder of this machine, such as the `teacher` of `objective_options`."""
    named = {"model": [args.model.model], "tokenizer": [args.model.tokenizer]}
    options = args.objective.objective_options.values()
    named["objective_options"] = [value for value in options if isinstance(value, str)]
    return [name for name, values in named.items() if any(map(from_folder, values))]


def observations(trainer: ObjectiveTrainer, args: Arguments, test: datasets.Dataset) -> Observations:
    """What the evaluation has just predicted for the test rows; nothing of it is asked again."""
    output, objective, task = trainer.evaluation, trainer.training_objective, args.task
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    batch_size = args.training.per_device_eval_batch_size
    predictor = ModelPredictor(model, trainer.processing_class, objective, task, batch_size)
    columns, positions = to_columns(test), output.label_ids["target_positions"]
    scored = score(output, task, columns, trainer.processing_class, objective)
    forced = forced_symbols(task, trainer.processing_class, output.predictions["forced"], positions)
    free = read_symbols(task, texts_of(trainer.processing_class, output.predictions["free"]), objective.order)
    return Observations(predictor, task, columns, scored["forced"], scored["free"], forced, free)


def write(results: RunResults, args: Arguments) -> None:
    """Write results.json and recipe.yaml, which repeats the run unless it read a folder or file of this machine.

    The model is saved already: what is written names its weights.
    """
    folder = Path(args.training.output_dir)
    results = dataclasses.replace(results, weights=sum_of_weights(folder / RUN_FILE))
    write_json(folder / RESULTS_FILE, results.to_json())
    (folder / RECIPE_FILE).write_text(recipe_text(args.to_dict(), results.local), encoding="utf-8")


def summary(results: RunResults, folder: str, task: Task, last: int) -> str:
    """The end of a run: the table by position, the verdict, and where everything was written.

    `last` is the step at which it ended; the results may be those of a better checkpoint before.
    """
    table = position_table(results.accuracies, results.decision_position, results.chance, task.words)
    before = results.resumed_at or 0
    steps = f"{last - before:,} of " * bool(before) + plural(last, "step")
    speed = f"{steps} in {results.train_seconds:,.0f} s"
    if results.throughput:
        speed = f"{throughput_line(results.throughput)}\n{speed}"
    verdict = paragraph(results.verdict["text"])
    return f"\n{table}\n\n{verdict}\n\n{speed}\nmodel, tokenizer and results.json are in {folder}"
