"""The card of any other task than path-star graphs, from what it says of itself: docstrings, decisions and chance."""

import inspect
import json
import re

from dataset_card import Config, default_of, head, making, megabytes, table, usage
from publication import Publication

from nt_failures.data.columns import to_columns
from nt_failures.evaluation.metrics import format_chance, format_rounded
from nt_failures.tasks.base import Task

ROWS = 4096
"""Rows, the first of a split, in which decisions are counted."""


def text(publication: Publication, configs: list[Config]) -> str:
    """The whole card."""
    default, title = default_of(configs), publication.task.replace("_", " ").capitalize()
    sizes = default.builder.config.task.to_dict()
    parts = [
        head(configs, title, ["next-token-prediction", publication.task.replace("_", "-")]),
        _what(title, default),
        _configs(configs),
        usage(publication, default, sizes),
        "The library also brings training objectives, and a diagnosis that says why a model fails.",
        _making(publication, configs[0]),
        _limits(configs),
        _sources(publication.builder.task_class),
    ]
    return "\n\n".join(parts) + "\n"


def _said(task_class: type[Task]) -> tuple[str, str]:
    """What the class says of itself, and of its parameters."""
    said, _, rest = inspect.getdoc(task_class).partition("\nArgs:\n")
    args = inspect.cleandoc(re.split(r"\n(?=\S)", rest)[0])  # to the next heading
    return said.strip(), re.sub(r"^(\w+): ", r"- `\1`: ", args, flags=re.MULTILINE)


def _what(title: str, config: Config) -> str:
    task, row = config.builder.config.task, config.samples[0]
    summary = inspect.getdoc(inspect.getmodule(type(task))).splitlines()[0].removeprefix(f"{type(task).__name__}: ")
    problem, parameters = _said(type(task))
    kinds = [(f"`{name}`", f"`{kind}`") for name, kind in config.builder.info.features.items()]
    return f"""# {title}

{summary[0].upper()}{summary[1:]}

This is the first row of `{config.name}`:

```
prompt      {row["prompt"]}
completion  {row["completion"]}
```

As stored; `prompt` and `completion` are the other columns as text, and the right answer is `{task.answer_column}`:

```json
{json.dumps(row)}
```

| column | type |
|---|---|
{table(kinds)}

## The problem

{problem}

Parameters:

{parameters}"""


def _decision(config: Config) -> tuple[str, str, str]:
    """Where the decision is, in how many rows, and its chance, in the last split: what is tested on."""
    task = config.builder.config.task
    split = list(config.rows)[-1]
    columns = to_columns(config.builder.as_dataset(split=f"{split}[:{ROWS}]"))
    places, guess = task.decisions(columns, "forward"), task.guess(columns, "forward")
    found = places > 0
    if not found.any():
        return "none", "-", "-"
    low, high = places[found].min(), places[found].max()
    return f"{low}" if low == high else f"{low} to {high}", f"{found.mean():.0%}", format_chance(guess[found].mean())


def _configs(configs: list[Config]) -> str:
    task_class, splits = type(configs[0].builder.config.task), list(configs[0].rows)
    fields = list(configs[0].builder.config.task.to_dict())
    names = ["config", *(f"`{name}`" for name in fields), *(f"{split} rows" for split in splits)]
    names += [f"{task_class.PROBLEM}s", "Parquet", "symbols", "decision", "rows with one", "chance"]
    lines = [names, ["---", *["---:"] * (len(names) - 1)]]
    for config in configs:
        task = config.builder.config.task
        name = f"`{config.name}`" + (" (default)" if config is default_of(configs) else "")
        sizes = [str(getattr(task, field)) for field in fields]
        rows = [f"{config.rows[split]:,}" for split in splits]
        number = format_rounded(task.num_problems) if task.num_problems < 1e300 else "-"  # a larger one is no float
        lines.append([name, *sizes, *rows, number, megabytes(config.size), str(task.answer_length), *_decision(config)])
    shared = "train draws from about six eighths of them, validation and test from about one each"
    if configs[0].builder.config.task.num_answers is not None:
        shared = "all splits draw from all of them, and it is the right answers that are divided, six eighths for train"
    return f"""## Configs

{table(lines)}

`{task_class.PROBLEM}s`: how many different ones there are, `-` where that is not known or above 1e300;
{shared}.
`symbols`: of the longest answer.
`decision`: the position, from 1 and from the first symbol of the answer on, that cannot be copied or looked up from the
prompt and the symbols before it, for who writes the answer from its first symbol on; counted in the first {ROWS:,} rows
of `{splits[-1]}`.
`chance`: of these rows with a decision, how many the best guess without a plan is right in there, on average."""


def _making(publication: Publication, config: Config) -> str:
    task_class = publication.builder.task_class
    hashed = task_class.split_hash if task_class.split_hash is not Task.split_hash else task_class.instance_hash
    rule = (
        "a hash assigns every row to one split, and rows of one hash are never divided. Of what it is taken:\n"
        + inspect.getdoc(hashed).splitlines()[0]
        if task_class.split_of is Task.split_of
        else inspect.getdoc(task_class.split_of).splitlines()[0]
    )
    return f"""{making(publication, config)}

Rows come from `numpy.random.default_rng([seed, split, block])` in blocks of 4,096.
`overlap="forbid"`: {rule}
With the versions above, every build gives the same rows and the same Parquet files, byte for byte."""


def _limits(configs: list[Config]) -> str:
    parts = ["Synthetic, for the study of training objectives: a high score says nothing about reasoning in language."]
    repeated = [f"`{config.name}`: {sentence}" for config in configs for sentence in config.builder.config.too_small()]
    return "## Limits\n\n" + "\n".join([*parts, *repeated, "Licence: Apache-2.0. No personal data."])


def _sources(task_class: type[Task]) -> str:
    """Every paper that the task's file or class names."""
    said = f"{inspect.getdoc(inspect.getmodule(task_class))}\n{inspect.getdoc(task_class)}"
    found = dict.fromkeys(re.findall(r"\b\d{4}\.\d{5}\b", said))
    return "## Sources\n\n" + "\n".join(f"- [arXiv {number}](https://arxiv.org/abs/{number})" for number in found)
