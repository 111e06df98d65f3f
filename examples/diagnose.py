"""Say whether and why a causal LM fails on a lookahead task: report in the terminal, Markdown, JSON and figures.

    python examples/diagnose.py outputs/deg2-path5-nodes50-gpt2-4x64-next_token-forward-seed0
    python examples/diagnose.py gpt2 --degree 2 --path_length 4 --num_nodes 20       # any stock model
    python examples/diagnose.py NAME --api http://localhost:8000/v1 --prompt_style chat    # behind a server

A model that this library trained says itself on which task and under which objective; for any other one, the task's
parameters are flags (behind `--task my_module.MyTask` those of your own), and the objective is next-token. A stock
model gets the bare prompts, without instruction or examples; in a chat, with the task's instruction.

A server's key, if it needs one, is read from the environment (OPENAI_API_KEY). Its answers are kept in answers.jsonl
in the output folder: the same command, started again, asks only what is missing.
"""

import argparse
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import nt_failures as ntf
from nt_failures import registry
from nt_failures.data.columns import PROMPT_STYLES, to_columns
from nt_failures.diagnosis import Budget, report
from nt_failures.diagnosis.diagnose import diagnose_observed
from nt_failures.evaluation.observations import Observations
from nt_failures.evaluation.predictor import Columns, ModelPredictor, Predictor
from nt_failures.experiments import command_line, flags, merging, script
from nt_failures.hub.json_files import read_object, write_json
from nt_failures.hub.load import Loaded, read_results
from nt_failures.hub.run_files import ARGUMENTS_FILE
from nt_failures.hub.run_results import RunResults
from nt_failures.models.load import check_length
from nt_failures.tasks import find_task
from nt_failures.training.budget import seen_all

REPORT_FILE = "diagnosis.json"
ANSWERS_FILE = "answers.jsonl"


@dataclasses.dataclass
class Subject:
    """What is diagnosed: a model as it predicts, on which rows, and what is known of its training."""

    predictor: Predictor
    task: ntf.Task
    held_out: Columns
    objective: ntf.Objective
    described: bool = False
    """whether the objective is known, and not assumed"""
    train: Columns | None = None
    curve: Sequence[Mapping[str, float]] = ()
    budget: Budget | None = None


def main(argv: list[str]) -> dict:
    """One model: load or reach it, diagnose, write. Returns the diagnosis."""
    args, rest = parse(argv)
    if args.import_module is not None:
        registry.import_own(args.import_module)
    subject, folder = of_server(args, rest) if args.api else of_model(args, rest)
    task, order = subject.task, subject.objective.order
    observed = Observations(subject.predictor, task, subject.held_out)
    seen = None if subject.train is None else Observations(subject.predictor, task, subject.train)
    found = diagnose_observed(observed, seen, subject.curve, subject.budget, known=subject.budget is not None)
    if args.api:
        found["api"] = subject.predictor.about()

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / REPORT_FILE, found)
    decision, chance = observed.decision, observed.chance
    pictured = report.draw(folder, observed.accuracies, decision, chance, task, order, observed.example())
    if found["learning_order"]:
        report.draw_learning(folder, subject.curve, subject.objective, decision, chance)
    text = report.diagnosis_markdown(found, task, args.model, subject.objective, subject.described, pictured)
    (folder / "diagnosis.md").write_text(text, encoding="utf-8")
    print(report.diagnosis_text(found, task), f"\n\nreport, figures and JSON are in {folder}")
    return found


def of_model(args: argparse.Namespace, rest: list[str]) -> tuple[Subject, Path]:
    """A model in a folder or on the Hub, and where the report goes."""
    try:
        loaded = ntf.load(args.model)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{args.model!r} is no folder with a model, and no Hub id within reach: {reason}") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    task = choose_task(args, rest, loaded.task)
    folder = choose_folder(args, task)
    way = "remove it to diagnose the model without its training"
    run = RunResults()
    if loaded.described:
        run = read_results(args.model, way) or RunResults(arguments=began(args.model))
    same = loaded.task == task  # what a training spent says nothing of a task that it was not on
    predictor = ModelPredictor(loaded.model.to(device), loaded.tokenizer, loaded.objective, task, args.batch_size)
    check_tokenizer(loaded)
    data = run.data_arguments
    if same and run.files and args.test_file is None:
        raise ValueError(
            f"the run read its rows from a file ({', '.join(run.files)}), and rows drawn here may be among them; give "
            "--test_file with rows that it was not trained on."
        )
    seed, overlap = data.get("dataset_seed", 0), data.get("overlap", "forbid")
    held_out, train = held_out_rows(args, task, seed, overlap), None
    training = (run.arguments or {}).get("training", {})
    drawn = same and data and not data["streaming"] and not run.files
    if drawn and run.examples is not None and seen_all(run.examples, data["num_train"], training):
        train = task.block(seed, "train", 0, overlap, rows=min(args.num_test, data["num_train"]))
    try:
        check_length(loaded.model, predictor.longest(held_out))
    except ValueError as error:
        if same or loaded.task is None:
            raise
        raise ValueError(f"the model was trained on {loaded.task}, not {task}, and does not fit: {error}") from error
    budget = Budget(run.steps, run.examples, run.flops) if same and run.steps is not None else None
    curve = run.learning_curve or () if same else ()
    return Subject(predictor, task, held_out, loaded.objective, loaded.described, train, curve, budget), folder


def began(model: str) -> Mapping[str, Any] | None:
    """The arguments of the run whose folder or checkpoint this is: a checkpoint has no results that would name them."""
    folders = [Path(model), Path(model).resolve().parent] if Path(model).is_dir() else []
    found = [folder / ARGUMENTS_FILE for folder in folders if (folder / ARGUMENTS_FILE).is_file()]
    return read_object(found[0]) if found else None


def of_server(args: argparse.Namespace, rest: list[str]) -> tuple[Subject, Path]:
    """A model behind an OpenAI-compatible server, and where the report goes."""
    task = choose_task(args, rest, None)
    folder = choose_folder(args, task)
    options = merging.mapping("--api_options", args.api_options)
    connection = {"cache": folder / ANSWERS_FILE, "timeout": args.timeout, "concurrency": args.concurrency}
    connection |= {"max_retries": args.max_retries, "key_variable": args.api_key_variable}
    how = {"prompt_style": args.prompt_style, "max_tokens": args.max_tokens, "options": options}
    predictor = ntf.ApiPredictor(args.model, task, args.api, **how, **connection)
    return Subject(predictor, task, held_out_rows(args, task), ntf.NextToken()), folder


def held_out_rows(args: argparse.Namespace, task: ntf.Task, seed: int = 0, overlap: str = "forbid") -> Columns:
    """The first rows of the file that was named, or of the test split."""
    if args.test_file is None:
        return task.block(seed, "test", 0, overlap, rows=args.num_test)
    rows = ntf.load_lines(args.test_file, task)
    return to_columns(rows.select(range(min(args.num_test, len(rows)))))


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what is left of it: flags of the task, which is not known before the model is loaded."""
    parser = command_line.plain_parser(__doc__)
    parser.add_argument("model", help="folder or Hub id of a causal LM; with --api, its name at the server")
    task = "a name, or a dotted path to your own class, whose fields are flags (default: the model's, else path_star)"
    parser.add_argument("--task", help=task)
    parser.add_argument(
        "--import_module", help="module of your own objective or task, which a model's file cannot import"
    )
    parser.add_argument("--num_test", type=int, help="held-out rows, at most 4096 (2000; with --api 200)")
    parser.add_argument("--test_file", help="take them from this file (see nt_failures.load_lines) and draw none")
    parser.add_argument("--batch_size", type=int, default=200, help="rows per forward pass (%(default)s)")
    parser.add_argument("--output_dir", type=Path, help="default: outputs/diagnosis/MODEL-TASK")
    parser.add_argument("--overwrite_output_dir", action="store_true", help="replace an earlier diagnosis there")
    server = parser.add_argument_group("a model behind an OpenAI-compatible server (extra [api])")
    server.add_argument("--api", metavar="URL", help="of the server, such as http://localhost:8000/v1")
    styles = "`text` is continued, so all is measured; `chat` asks in words and reads whole answers alone (%(default)s)"
    server.add_argument("--prompt_style", choices=PROMPT_STYLES, default="text", help=styles)
    server.add_argument("--max_tokens", type=int, default=2048, help="of an answer in a chat (%(default)s)")
    server.add_argument("--api_options", default="{}", help="further fields of each request, as JSON")
    key = "environment variable with the key (%(default)s)"
    server.add_argument("--api_key_variable", metavar="NAME", default="OPENAI_API_KEY", help=key)
    server.add_argument("--timeout", type=float, default=120.0, help="seconds for one try (%(default)s)")
    server.add_argument("--max_retries", type=int, default=5, help="further tries (%(default)s)")
    server.add_argument("--concurrency", type=int, default=8, help="requests at a time (%(default)s)")
    args, rest = parser.parse_known_args(argv)
    if args.num_test is None:
        args.num_test = 200 if args.api else 2000
    if args.prompt_style == "chat" and not args.api:
        raise ValueError("--prompt_style chat asks a server; give its address with --api, or leave it out.")
    if not 1 <= args.num_test <= 4096:
        raise ValueError(f"--num_test {args.num_test} must be from 1 to 4096.")
    if args.batch_size < 1:
        raise ValueError(f"--batch_size {args.batch_size} must be at least 1.")
    return args, rest


def choose_task(args: argparse.Namespace, rest: list[str], trained: ntf.Task | None) -> ntf.Task:
    """The task of the flags; what they leave open is as the model was trained, or default."""
    kind = find_task(args.task) if args.task else type(trained or ntf.PathStar())
    parser = flags.Parser([kind], more="")
    parser.recipe_defaults(trained.to_dict() if type(trained) is kind else {}, {})
    chosen, unknown = parser.parse_known_args(rest)
    if unknown:
        known = [f"--{name}" for name in parser.names]
        own = [f"--{name}" for name in vars(args) if name != "model"]
        near = registry.suggestion(unknown[0].split("=")[0], known + own)
        raise ValueError(
            f"{unknown[0]!r} is no flag of this program, nor a parameter of {kind.__name__}: {', '.join(known)}.{near}"
        )
    return kind(**vars(chosen))


def dashed(model: str) -> str:
    """A name of all parts of a model's folder or Hub id, as the last ones alone are those of other models, too."""
    path = Path(model)
    if path.is_dir():
        path = path.resolve()
        near = [folder for folder in (Path("outputs").resolve(), Path.cwd()) if folder in path.parents]
        path = path.relative_to(near[0] if near else path.anchor)
    return "--".join(path.relative_to(path.anchor).parts)  # a server's name may be a path of its own


def choose_folder(args: argparse.Namespace, task: ntf.Task) -> Path:
    """Where the report goes; a folder with content is refused, but for an earlier diagnosis that may be replaced, and
    for answers of a server, which are asked again only where they are missing."""
    name = f"{dashed(args.model)}-{task.config_name}" + "-chat" * (args.prompt_style == "chat")
    folder = args.output_dir or Path("outputs") / "diagnosis" / name
    if folder.is_dir() and any(path.name != ANSWERS_FILE or not args.api for path in folder.iterdir()):
        earlier = (folder / REPORT_FILE).exists()
        if not (earlier and args.overwrite_output_dir):
            way = "add --overwrite_output_dir to replace that diagnosis, or " if earlier else ""
            raise ValueError(f"output_dir {str(folder)!r} is not empty; {way}give --output_dir with another folder.")
    return folder


def check_tokenizer(loaded: Loaded) -> None:
    """ValueError for a tokenizer that the model's embedding is too small for."""
    tokens, room = len(loaded.tokenizer), loaded.model.config.vocab_size
    if tokens > room:
        raise ValueError(
            f"the tokenizer has {tokens} tokens and the model's embedding {room}; it is not the tokenizer of this "
            "model, or model.resize_token_embeddings(len(tokenizer)) was left out."
        )


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    script.run(main, f"interrupted; what a server has answered stays in {ANSWERS_FILE}, and is not asked again")
