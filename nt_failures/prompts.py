"""A path-star prompt read without knowing its task: rewards and metrics are given graphs of any size and labels."""

from collections.abc import Mapping

from nt_failures.tasks.path_star import PathStar


def read_prompt(text: str) -> tuple[PathStar, dict[str, object]]:
    """A prompt of any size and any labels: a task of its size, and its row with the path to the goal.

    Raises:
        ValueError: the text is no path-star graph, or holds the path already.
    """
    line = text.strip()
    edges = [edge.split(",") for edge in line.split("/")[0].split("|")]
    source = line.split("/")[-1].split(",")[0]
    degree = max(sum(edge[0] == source for edge in edges), 1)
    task = PathStar(degree, max(len(edges) // degree, 1) + 1, num_nodes=2**16)
    row = task.parse(line, any_label=True)
    if row["path"] is not None:
        raise ValueError(f"it holds the path already, {row['path']}; a prompt ends with '='.")
    return task, {**row, "path": path_to_goal(row)}


def path_to_goal(row: Mapping[str, object]) -> list[int]:
    """The path of a parsed row: from the goal back to the node without a parent, turned round."""
    parent_of = {child: parent for parent, child in row["edges"]}
    path = [row["goal"]]
    while path[-1] in parent_of:
        path.append(parent_of[path[-1]])
    return path[::-1]
