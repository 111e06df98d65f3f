"""Claim: large problems fail where small ones do not. Measured: whole right answers by what each problem drew."""

import numpy as np

from nt_failures.evaluation.observations import Observations


def by_difficulty(observed: Observations) -> dict[str, dict[int, dict[str, float]]]:
    """Measure exact answers by each size that differs from row to row, `Task.difficulty`, the other sizes mixed.

    Returns:
        {name: {size: {`exact`: share of exact answers, `n`: different problems}}}, from the smallest size to the
        largest; without the names of which all rows drew the same, so `{}` for a task of one size.

    Example:
        >>> from types import SimpleNamespace
        >>> from nt_failures.tasks import PathStar
        >>> task = PathStar(degree=2, path_length=(3, 4), num_nodes=10)
        >>> right = SimpleNamespace(order="forward", free=task.answers)  # a perfect model
        >>> observed = Observations(right, task, task.block(0, "test", 0, rows=200))
        >>> by_difficulty(observed)["path_length"][4]["exact"]
        1.0
    """
    found = {}
    for name, sizes in observed.task.difficulty(observed.columns).items():
        drawn = np.unique(sizes)
        if len(drawn) > 1:
            found[name] = {int(size): _exact(observed, np.asarray(sizes) == size) for size in drawn}
    return found


def _exact(observed: Observations, rows: np.ndarray) -> dict[str, float]:
    return {"exact": float(observed.free.exact[rows].mean()), "n": observed.n(rows)}
