"""The card of path-star graphs: what the rows are, how they were made and how to read them."""

import json
import math

from dataset_card import Config, default_of, head, making, megabytes, table, usage
from publication import Publication

from nt_failures.evaluation.metrics import format_rounded

FIGURE = "graph.png"

PAPER = """@inproceedings{bachmann2024pitfalls,
  title     = {The Pitfalls of Next-Token Prediction},
  author    = {Bachmann, Gregor and Nagarajan, Vaishnavh},
  booktitle = {International Conference on Machine Learning (ICML)},
  year      = {2024},
  url       = {https://arxiv.org/abs/2403.06963}
}"""


def text(publication: Publication, configs: list[Config]) -> str:
    """The whole card."""
    default = default_of(configs)
    parts = [
        head(configs, "Path-star graphs", ["next-token-prediction", "path-star", "graph", "planning"]),
        _what(default),
        _configs(configs),
        usage(publication, default, {"degree": 3, "path_length": 4}),
        "The library also brings the training objectives that solve the task, and a diagnosis that says why a model "
        "does not.",
        _making(publication, configs[0]),
        _limits(configs),
        f"## Citation\n\n```bibtex\n{PAPER}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _what(config: Config) -> str:
    row = config.samples[0]
    more = "".join(f"{sample['prompt']}{sample['completion']}\n" for sample in config.samples[1:])
    more = more and f"The next rows, prompt and completion in one line:\n\n```\n{more}```\n\n"
    return f"""# Path-star graphs

A star of paths: all start at one source, and the end of one of them is the goal. The model sees the edges in
random order, the source and the goal, and is to write the path. {_difficulty(config)}

![A graph with its source, its goal and the path between them]({FIGURE})

This is the first row of `{config.name}`:

```
prompt      {row["prompt"]}
completion  {row["completion"]}
```

`a,b` is an edge from a to b, `|` stands between edges, `/source,goal` asks for the path, and `=` ends the prompt.
As stored:

```json
{json.dumps(row)}
```

{more}| column | type | meaning |
|---|---|---|
| `edges` | list of pairs of int32 | (parent, child), in the order of the prompt |
| `source`, `goal` | int32 | where the path starts and ends |
| `path` | list of int32 | the right nodes, source and goal included |
| `prompt`, `completion` | string | the same as text, for trainers that take prompt and completion |"""


def _plans(config: Config) -> bool:
    """Whether the first step needs a plan; with two nodes to an arm it leads to the goal, which the prompt names."""
    return config.builder.config.task.chance < 1


def _difficulty(config: Config) -> str:
    paper = "[*The Pitfalls of Next-Token Prediction*](https://arxiv.org/abs/2403.06963)"
    if not _plans(config):
        return f"""The task is that of
{paper}. On `{config.name}` there is nothing to plan: the path
is the source and the goal, a copy from the prompt. Longer arms make it hard."""
    return f"""Every step but the first is a look-up; which path to enter shows only
when it is followed back from the goal. In {paper},
next-token training fails on it **in distribution**: teacher forcing reveals the earlier nodes, so the look-ups
are learnt, and the first step stays a guess
(right in {_chance(config)} on `{config.name}`)."""


def _chance(config: Config) -> str:
    task = config.builder.config.task
    return f"1 of {task.degree} cases" if task.alike else f"{task.chance:.0%} of the cases, over all its sizes,"


def _configs(configs: list[Config]) -> str:
    splits = list(configs[0].rows)
    names = [
        "config",
        "arms",
        "nodes of an arm",
        "labels",
        *(f"{split} rows" for split in splits),
        "graphs",
        "Parquet",
        "chance",
    ]
    lines = [names, ["---", *["---:"] * (len(names) - 1)]]
    for config in configs:
        task = config.builder.config.task
        sizes = [f"{task.degree}", f"{task.path_length}", f"{task.num_nodes}"]
        rows = [f"{config.rows[split]:,}" for split in splits]
        name = f"`{config.name}`" + (" (default)" if config is default_of(configs) else "")
        chance = f"{task.chance:.0%}" if _plans(config) else "-"
        lines.append([name, *sizes, *rows, format_rounded(task.num_problems), megabytes(config.size), chance])
    copied = "" if all(map(_plans, configs)) else " `-`: nothing to guess, the answer is a copy from the prompt."
    if not all(config.builder.config.task.alike for config in configs):
        copied += (
            "\nOf a range, (lowest, highest), each graph draws its own size; the lists of a smaller graph have -1\n"
            "behind their end, and its path ends with ` .`."
        )
    return f"""## Configs

{table(lines)}

The nodes of an arm include the source. `graphs` is how many different ones there are, with their goals, whatever the
order of their edges: train draws from six eighths of them, validation and test from one each.
`chance` is the accuracy of a guess at the first step, and so that of a model
that knows everything else.{copied}"""


def _making(publication: Publication, config: Config) -> str:
    return f"""{making(publication, config)}

Labels are drawn without replacement, edges are shuffled, rows come from
`numpy.random.default_rng([seed, split, block])` in blocks of 4,096.
{_splits(list(config.rows))} The released code of the paper draws the splits independently.
With the versions above, every build gives the same rows and the same Parquet files, byte for byte."""


def _splits(names: list[str]) -> str:
    how = (
        '`overlap="forbid"`: a hash of the source, the set of its children and the set of the other nodes assigns all '
        "graphs over them, with all their goals, to one split"
    )
    if len(names) == 1:
        return f"{how}; only `{names[0]}` is published."
    listed = " and ".join(f"`{name}`" for name in names)
    return f"{how}, so that no graph is in more than one of {listed}, in whatever order its edges are written."


def _limits(configs: list[Config]) -> str:
    parts = [
        "Synthetic graphs of one shape, for the study of training objectives: a high score says nothing about "
        "reasoning in language."
    ]
    problems = {config.name: config.builder.config.num_problems.get("train", math.inf) for config in configs}
    if repeated := [config.name for config in configs if config.rows.get("train", 0) > problems[config.name]]:
        listed = ", ".join(f"`{name}` about {problems[name]:,.0f}" for name in repeated)
        own = " The splits still share none." if len(configs[0].rows) > 1 else ""
        parts.append(
            f"Some configs have fewer different graphs to draw from than rows in `train` ({listed}), which shows some "
            f"of them several times, with the edges in another order.{own}"
        )
    if copied := [f"`{config.name}`" for config in configs if not _plans(config)]:
        parts.append(
            f"In {', '.join(copied)} an arm has two nodes, and there is nothing to plan: the answer is copied from the "
            "prompt."
        )
    return "## Limits\n\n" + "\n".join([*parts, "Licence: Apache-2.0. No personal data."])
