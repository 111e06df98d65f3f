"""Writes the files of this folder: a task for each named config of the library's tasks.

    python examples/lm_eval/tasks/make_tasks.py

It is run again after a change of a task's `CONFIGS`.
"""

from pathlib import Path

from nt_failures.data.registration import OURS, builder_class
from nt_failures.tasks import TASKS, Task


def files() -> dict[str, str]:
    """The text of each file, by its name."""
    found = {}
    for task_class in TASKS.values():
        name = builder_class(task_class).REPO_ID.removeprefix(OURS)
        group = name if name == "pathstar" else f"nt_{name}"
        sizes = {f"{group}_{config}".replace("-", "_"): config for config in task_class.CONFIGS}
        for task_name, config in sizes.items():
            found[f"{task_name}.yaml"] = one(task_name, name, config, task_class(**task_class.CONFIGS[config]))
        listed = "".join(f"  - {task_name}\n" for task_name in sizes)
        found[f"{group}.yaml"] = (
            f"# All sizes; each keeps its own figures, because chance differs.\ngroup: {group}\ntask:\n{listed}"
        )
    return found


def one(task_name: str, name: str, config: str, task: Task) -> str:
    """One size: its rows, and the length of an answer."""
    ended = task.END in task.symbols
    length = "and one for the end" if ended else "without an end"
    return f"""include: _task
task: {task_name}
dataset_kwargs: {{name: {name}, config: {config}}}
# One token a symbol, as the models trained here write, {length}.
generation_kwargs: {{do_sample: false, max_gen_toks: {task.answer_length + ended}, until: ["\\n"]}}
"""


if __name__ == "__main__":
    for file, text in files().items():
        (Path(__file__).parent / file).write_text(text, encoding="utf-8")
