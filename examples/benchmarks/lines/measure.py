"""What a line of the benchmark is, and how it is measured: everything in turn, in one process, medians and ratios.

Work of one thread is measured in CPU seconds of this process, so that other programs on the machine count for little;
of a fresh interpreter in its own CPU seconds; work of several processes by the clock on the wall.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

CPU, WALL = time.process_time, time.perf_counter


@dataclasses.dataclass
class Line:
    """One line: a name to select it by, what the work is, and what it should be."""

    name: str
    work: str
    against: str
    target: str
    run: Callable[[bool], "Measured"]
    """called with `quick`: a smoke test's sizes"""


@dataclasses.dataclass
class Measured:
    """Seconds for the same work; None where there is nothing to compare."""

    ours: float
    alternative: float | None = None
    limit: float | None = None
    limit_is: str = ""
    least_ratio: float | None = None
    """alternative / ours that the target asks for"""
    checks: dict[str, bool] = dataclasses.field(default_factory=dict)
    """other parts of the target, and whether they hold"""
    notes: list[str] = dataclasses.field(default_factory=list)
    data: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times faster than the alternative."""
        return None if self.alternative is None else self.alternative / self.ours

    @property
    def holds(self) -> bool | None:
        """Whether the target is met; None where it asks for a statement only."""
        asked = [*self.checks.values()]
        if self.least_ratio is not None and self.ratio is not None:
            asked.append(self.ratio >= self.least_ratio)
        return all(asked) if asked else None


def interleaved(
    works: Mapping[Any, Callable[[], Any]], rounds: int, clock: Callable[[], float] = CPU, warm: bool = False
) -> dict[Any, float]:
    """Median seconds of each work, all of them once in every round, after one round that does not count.

    With `warm` each is done twice in a row and the second counts, for works that would find the caches full of
    another's.
    """
    times: dict[Any, list[float]] = {name: [] for name in works}
    for round_ in range(rounds + 1):
        for name, work in works.items():
            if warm:
                work()
            start = clock()
            work()
            if round_ or rounds == 1:
                times[name].append(clock() - start)
        if rounds == 1:
            break
    return {name: statistics.median(values) for name, values in times.items()}


def reported(works: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """As `interleaved`, for works that return their own seconds, such as those of a step; every round counts."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(work())
    return {name: statistics.median(values) for name, values in times.items()}


def seconds(value: float | None) -> str:
    """Seconds with three digits and a unit."""
    if value is None:
        return "-"
    for size, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"
