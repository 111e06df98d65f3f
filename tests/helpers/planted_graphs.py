"""Planted predictors for every task on graphs, whatever its sizes: models that walk, and differ in how they choose."""

import numpy as np


class Walker:
    """Writes the source, then always a child of the node before it, and ends at a leaf or at the goal.

    Args:
        task: a task on graphs.
        knows: (n,) bool for columns: the rows in which it chooses right where there are several children; else it
            guesses one. None: it chooses right in all.
        first_only: it guesses at the first choice alone, and chooses right later.
        form: what its answers are, as in UnequalStar.
    """

    autoregressive, trained_positions = True, None

    def __init__(self, task, knows=None, first_only=False, order="forward"):
        self.task, self.knows, self.first_only, self.order = task, knows, first_only, order
        self.edge_form = getattr(task, "form", "nodes") == "edges"

    def forced(self, columns, answers):
        pairs = zip(self._rows(columns), answers.tolist(), strict=True)
        return np.array([[self.step(row, shown[:k]) for k in range(len(shown))] for row, shown in pairs])

    def free(self, columns):
        return self.continued(columns, np.zeros((len(columns["path"]), self.task.answer_length), int), 0)

    def continued(self, columns, answers, symbols):
        found = []
        counts = np.broadcast_to(symbols, len(answers)).tolist()
        for row, shown, given in zip(self._rows(columns), answers.tolist(), counts, strict=True):
            written = shown[:given]
            while len(written) < self.task.answer_length + self.task.lengths_differ:
                written.append(self.step(row, written))
            found.append(written)
        return np.array(found)

    def step(self, row, shown):
        if not shown:
            return row["source"]
        last = shown[-1]
        children = row["children"].get(last, [])
        if last == row["goal"] or not children:
            return -1
        if self.edge_form and len(shown) % 2 == 0:
            return last  # the edge before it ends here
        if len(children) == 1 or row["goal"] in children:
            return row["goal"] if row["goal"] in children else children[0]
        right = next((child for child in children if child in row["path"]), children[0])
        guesses = not row["known"] and not (self.first_only and row["first"] != last)
        return children[row["luck"] % len(children)] if guesses else right

    def _rows(self, columns):
        n = len(columns["path"])
        known = np.full(n, self.knows is None) if self.knows is None else self.knows(columns)
        luck = np.random.default_rng(0).integers(0, 10**6, n).tolist()
        for i in range(n):
            children = {}
            for tail, head in columns["edges"][i].tolist():
                if tail >= 0:
                    children.setdefault(tail, []).append(head)
            path = columns["path"][i].tolist()
            first = next((node for node in path if len(children.get(node, [])) > 1), None)
            row = {"source": int(columns["source"][i]), "goal": int(columns["goal"][i]), "path": path}
            yield {**row, "children": children, "known": bool(known[i]), "first": first, "luck": luck[i]}


class Blank(Walker):
    """Nothing is learnt: every symbol is the label 0."""

    def step(self, row, shown):
        return 0


def nowhere(columns):
    return np.zeros(len(columns["path"]), dtype=bool)


def seen_in(task, columns):
    """Knows the rows that it was trained on."""
    hashes = task.instance_hash(columns)
    return lambda others: np.isin(task.instance_hash(others), hashes)
