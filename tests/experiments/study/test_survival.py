"""Censored regression: known parameters found again, from few runs and many censored ones, and silence where they are
unknown."""

import numpy as np
import pytest

from nt_failures.experiments.study import survival

BUDGETS = {"none censored": 1e9, "two in five censored": 1000, "five in six censored": 300}
TRUTH = np.array([1.0, 0.8, 0.3, 0.5])


def study(budget, seed=0, seeds=3, every=100, spread=0.3):
    """Runs of 18 cells: design, and the bounds of the times, known to `every` steps."""
    rng = np.random.default_rng(seed)
    cells = [
        (1, length, degree, np.log2(labels)) for length in (3, 4, 5) for degree in (2, 3) for labels in (7, 10, 14)
    ]
    design = np.repeat(np.array(cells, dtype=float), seeds, axis=0)
    times = np.exp(design @ TRUTH + spread * rng.standard_normal(len(design)))
    low = np.floor(times / every) * every
    censored = low >= budget
    return design, np.where(censored, budget, low), np.where(censored, np.inf, low + every)


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_known_parameters_are_found_again(budget):
    """Catches: censored runs left out or taken for solved at the budget, either of which flattens the growth."""
    design, low, high = study(budget, seeds=12, spread=0.6)
    found = survival.fit(design, low, high, replicates=100)
    assert found[0, 1:] == pytest.approx(TRUTH[1:], abs=0.2)
    lowest, highest = survival.interval(found[1:, 1])
    assert lowest < TRUTH[1] < highest
    solved = np.isfinite(high)
    left_out = survival.fit(design[solved], low[solved], high[solved], replicates=1)
    as_solved = survival.fit(design, low, np.where(solved, high, low + 100), replicates=1)
    if not solved.all():  # what those wrong programs would say
        assert max(left_out[0, 1], as_solved[0, 1]) < 0.6


def test_nearly_all_censored_is_not_identified():
    """Catches: a figure or an interval where hardly a run was solved, and those in the smallest graphs."""
    assert survival.fit(*study(300, seeds=12)) is None
    found = survival.fit(*study(200, seeds=12, spread=0.6), replicates=40)
    assert survival.interval(found[1:, 1]) is None


def test_one_interval_by_hand():
    """Catches: high and low swapped, natural and other logarithms mixed; without a spread the mean is in the
    interval."""
    ones = np.ones((40, 1))
    low = np.repeat([100.0, 200.0], 20)
    found = survival.fit(ones, low, 2 * low)  # log T: half in [4.605, 5.298], half in [5.298, 5.991], so around log 200
    assert found[0] == pytest.approx([np.log(200)], abs=1e-3)


@pytest.mark.parametrize(("lengths", "runs"), [([3, 4], 4), ([3, 4, 5], 3)])
def test_replicates_spread_as_the_mean_of_few_runs_does(lengths, runs):
    """Catches: replicates without the factor for the fitted cells, whose intervals of three seeds cover 84 %; the
    spread taken for known where six degrees of freedom are left, which covers 87 %; two coefficients counted for the
    means of three cells, which leave as many."""
    design = np.repeat([[1.0, length] for length in lengths], runs, axis=0)
    logs = design @ [5.0, 0.5] + 0.5 * np.random.default_rng(0).standard_normal(len(design))
    found = survival.fit(design, np.exp(logs), 1.001 * np.exp(logs), replicates=2000, seed=0)
    outer = logs.reshape(-1, runs)[[0, -1]]  # whose means differ by as many slopes as there are steps between them
    of_means = np.sqrt((outer.var(axis=1) / runs).sum()) / (len(lengths) - 1)
    wider = np.sqrt(len(design) / 6) * survival.t975(6) / 1.96
    assert np.nanstd(found[1:, 1]) == pytest.approx(wider * of_means, rel=0.05)


@pytest.mark.parametrize("solved", [[], [0], [0, 1], [0, 1, 2]])
def test_what_is_not_identified_is_not_said(solved):
    """Catches: a coefficient that rests on censored runs alone, on a line through two points, or on one length of
    path."""
    design = np.array([[1.0, length] for length in (3, 3, 3, 4, 4, 4)])
    low, high = np.full(6, 500.0), np.full(6, np.inf)
    high[solved] = 600
    assert survival.fit(design, low, high) is None
    high[[0, 1, 2, 3]] = 600
    assert survival.fit(design, low, high) is not None


def test_one_run_a_cell_has_no_interval():
    """Catches: an interval of no width from cells in which there is nothing to resample."""
    design = np.array([[1.0, length] for length in (3, 4, 5, 6)])
    found = survival.fit(design, np.array([100.0, 200, 400, 700]), np.array([200.0, 300, 500, 800]))
    assert found[0, 1] == pytest.approx(0.6, abs=0.2)
    assert survival.interval(found[1:, 1]) is None


def test_replicates_that_are_not_identified_widen_the_interval():
    """Catches: an interval of the lucky replicates alone."""
    replicates = np.arange(1000.0)
    assert survival.interval(replicates) == pytest.approx((25, 974), abs=1)
    replicates[::100] = np.nan
    assert survival.interval(replicates) == pytest.approx((15, 984), abs=2)
    replicates[::30] = np.nan
    assert survival.interval(replicates) is None


@pytest.mark.parametrize(("low", "high"), [(-1, 5), (5, 5), (7, 5)])
def test_bounds_that_are_no_interval(low, high):
    """Catches: steps and their evaluations mixed up in silence."""
    with pytest.raises(ValueError, match="0 <= low < high"):
        survival.fit(np.ones((3, 1)), np.array([1.0, 1, low]), np.array([2.0, 2, high]))


def test_a_run_that_nobody_looked_at_says_nothing():
    """Catches: log 0 of a run that was never evaluated, which makes every coefficient NaN."""
    design, low, high = study(1000)
    more = np.vstack([design, design[:1]]), np.append(low, 0), np.append(high, np.inf)
    assert np.array_equal(survival.fit(*more)[0], survival.fit(design, low, high)[0])


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.706), (2, 4.303), (9, 2.262), (10, 2.228), (11, 2.201), (30, 2.042), (99, 1.984)]
)
def test_students_t(degrees, quantile):
    """Catches: the normal quantile, or that of a neighbour in the table. The values are those of printed tables."""
    assert survival.t975(degrees) == pytest.approx(quantile, abs=0.0007)
