"""Reading a path-star graph and an answer from text, with errors that say what is wrong with it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nt_failures.tasks.path_star import PathStar


def parse_line(task: "PathStar", text: str, any_label: bool = False) -> dict[str, object]:
    """`PathStar.parse`; see there."""
    line = text.strip()
    try:
        graph, query_path = line.split("/")
        query, path_text = query_path.split("=")
        edges = [tuple(map(_label, edge.split(","))) for edge in graph.split("|")]
        source, goal = map(_label, query.split(","))
        path = [_label(node) for node in path_text.split(",")] if path_text else None
        children = {child: parent for parent, child in edges}
    except ValueError as error:
        raise ValueError(
            f"not a path-star line: {shorten(line)!r} ({error}); the form is 'a,b|c,d|...|y,z/source,goal=path', "
            "the path may be missing."
        ) from error
    if not any_label and (label := max(source, *children, *children.values())) >= task.num_nodes:
        raise ValueError(f"label {label} in {shorten(line)!r} is not below num_nodes={task.num_nodes}.")
    true_path = _path_to(task, line, edges, children, source, goal)
    if path is not None and path != true_path:
        raise ValueError(f"the path {path} in {shorten(line)!r} is not the path to the goal, {true_path}.")
    return {"edges": edges, "source": source, "goal": goal, "path": path}


def _path_to(task: "PathStar", line: str, edges: list, parent_of: dict, source: int, goal: int) -> list[int]:
    """The path to the goal, after checking that the edges are a path-star of the task's size."""
    leaves = set(parent_of) - set(parent_of.values())
    right_size = len(edges) == len(parent_of) == task.num_edges and len(leaves) == task.degree
    paths = {leaf: [leaf] for leaf in leaves if right_size}  # else they could be many, and long
    for path in paths.values():
        while path[-1] in parent_of and len(path) <= task.path_length:
            path.append(parent_of[path[-1]])
    on_arms = {node for path in paths.values() for node in path}  # fewer where two arms share a node
    star = len(on_arms) == task.nodes_used and all(
        len(path) == task.path_length and path[-1] == source for path in paths.values()
    )
    if not (right_size and star):
        raise ValueError(
            f"{shorten(line)!r} is not a graph of {task.degree} arms with {task.path_length} nodes each from "
            f"source {source}; parse it with the PathStar(degree, path_length, num_nodes) it was made with."
        )
    if goal not in leaves:
        raise ValueError(f"goal {goal} in {shorten(line)!r} is no leaf; the leaves are {sorted(leaves)}.")
    return paths[goal][::-1]


def read_labels(text: str) -> list[int]:
    """Node labels of a model's answer, -1 for every word that is none."""
    return [int(word) if _is_label(word) else -1 for word in text.replace(",", " ").split()]


def _is_label(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 10


def _label(word: str) -> int:
    if not _is_label(word):
        raise ValueError(f"{shorten(word)!r} is not a node label")
    return int(word)


def shorten(line: str) -> str:
    """A line of text for an error message."""
    return line if len(line) <= 80 else line[:77] + "..."
