"""Problems as questions to a chat model: the words around a prompt, and the answer that stands between its tags."""

from nt_failures.tasks.base import Task

OPEN, CLOSE = "<answer>", "</answer>"


def question(task: Task) -> str:
    """What stands above the prompt, which is the last line of a question. ValueError for a task that cannot be asked.

    Example:
        >>> from nt_failures.tasks import Sort
        >>> question(Sort(length=3))[:92]
        'Different numbers stand with commas between them, and then =. Give them in ascending order, '
    """
    if task.in_weights:
        raise ValueError(
            f"{type(task).__name__} cannot be asked in a chat, as no prompt shows its graph; train a model on its rows "
            "with prompt_style='text', or ask for another task."
        )
    stop = "" if task.instruction.endswith((".", "!", "?", ":")) else "."
    how = f"You may think first. Write your answer between {OPEN} and {CLOSE}, and nothing else there."
    return f"{task.instruction}{stop} {how}\n\n"


def read_tagged(text: str) -> str:
    """What stands in the last pair of tags that is closed; nothing where there is none, which no judge takes as right.

    Words around it do not count, nor does an earlier pair: a model may correct itself. A tag that is opened and never
    closed, as in a text that was cut, is none.

    Example:
        >>> read_tagged("First <answer>0,1</answer>, no: <answer>0,2</answer>, or <answer>0,3")
        '0,2'
        >>> read_tagged("0,2")
        ''
    """
    _, opened, inside = text.rpartition(CLOSE)[0].rpartition(OPEN)
    return inside.partition(CLOSE)[0] if opened else ""
