"""How a time grows with what it depends on, where some times are only known to be longer than a budget.

Log-normal accelerated failure time: log T = x b + s e with e ~ N(0, 1), of which each observation tells an interval,
low < T <= high; high is infinite for a run that was censored. Maximum likelihood by EM, as for any normal variable that
is seen through intervals; many weighted data sets, such as bootstrap replicates, are fitted at once.

Shapes: N observations, P columns of the design, R replicates.
"""

import math

import numpy as np
import torch

from nt_failures.evaluation.metrics import Z975

MOST_STEPS = 2000
TOLERANCE = 1e-4  # EM ends when no coefficient moves further in a step; log times are of the order of 1
LIMIT = 30.0  # standardised bounds beyond it are cut: the normal density there is 0 in floating point

_T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t, 97.5 % quantile, 1 to 10 degrees of freedom."""


def _identified(design_NP: np.ndarray, solved_N: np.ndarray) -> bool:
    """Whether the uncensored runs alone determine every coefficient, and leave one run over for the spread.

    Censored runs bound a coefficient from one side only, from which no maximum of the likelihood follows.
    """
    rows_KP = design_NP[solved_N]
    return len(rows_KP) > design_NP.shape[1] and np.linalg.matrix_rank(rows_KP) == design_NP.shape[1]


def fit(
    design_NP: np.ndarray, low_N: np.ndarray, high_N: np.ndarray, replicates: int = 400, seed: int = 0
) -> np.ndarray | None:
    """Coefficients of log time (1 + R, P): the estimate, then its bootstrap replicates; None if not identified.

    A replicate whose runs do not identify the coefficients is NaN. Runs are drawn with replacement among those of the
    same row of the design. ValueError for bounds that are no intervals.

    Args:
        low_N, high_N: bounds of each time, low < T <= high; low may be 0, and high infinite for a censored run.
    """
    if not (np.all(low_N >= 0) and np.all(low_N < high_N)):
        raise ValueError("every time needs bounds 0 <= low < high.")
    told_N = (low_N > 0) | np.isfinite(high_N)  # a run that nobody looked at says nothing
    design_NP, low_N, high_N = design_NP[told_N], low_N[told_N], high_N[told_N]
    solved_N = np.isfinite(high_N)
    if not _identified(design_NP, solved_N):
        return None
    rng, weights_RN = np.random.default_rng(seed), np.ones((1 + replicates, len(design_NP)))  # how often a run counts
    _, cell_N, runs_C = np.unique(design_NP, axis=0, return_inverse=True, return_counts=True)
    for cell, runs in enumerate(runs_C):
        weights_RN[1:, cell_N.ravel() == cell] = rng.multinomial(runs, np.full(runs, 1 / runs), replicates)
    usable_R = np.array([_identified(design_NP[w > 0], solved_N[w > 0]) for w in weights_RN])
    usable_R[1:] &= runs_C.min() > 1  # a cell of one run has nothing to resample, and would seem to be known exactly
    coefficients_RP = _maximise(design_NP, low_N, high_N, weights_RN[usable_R])
    all_RP = np.full((len(weights_RN), design_NP.shape[1]), np.nan)
    # The variance among n resampled runs is (n - 1) / n of that among n new ones, and itself known from few runs.
    free = max(len(design_NP) - len(runs_C), 1)
    stretch = math.sqrt(len(design_NP) / free) * t975(free) / Z975
    all_RP[usable_R] = coefficients_RP[0] + stretch * (coefficients_RP - coefficients_RP[0])
    return all_RP


def t975(degrees: int) -> float:
    """Student's t, 97.5 % quantile; beyond a table its expansion around the normal quantile, right to 0.0002."""
    if degrees <= len(_T975):
        return _T975[degrees - 1]
    z, cubic = Z975, (3 * Z975**7 + 19 * Z975**5 + 17 * Z975**3 - 15 * Z975) / 384
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2) + cubic / degrees**3


def _maximise(design_NP: np.ndarray, low_N: np.ndarray, high_N: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    """Coefficients (R, P) of each weighting of the runs."""
    with np.errstate(divide="ignore"):
        low_N, high_N = np.log(low_N), np.log(high_N)
    start_N = np.where(np.isfinite(high_N), high_N, low_N)
    gram_RPP = np.einsum("rn,np,nq->rpq", weights_RN, design_NP, design_NP)

    def regress(times_RN: np.ndarray) -> np.ndarray:
        moment_RP = np.einsum("rn,np,rn->rp", weights_RN, design_NP, times_RN)
        return np.linalg.solve(gram_RPP, moment_RP[..., None])[..., 0]

    coefficients_RP = regress(np.broadcast_to(start_N, weights_RN.shape))
    scales_R = np.ones(len(weights_RN))
    for _ in range(MOST_STEPS):
        mean_RN = coefficients_RP @ design_NP.T
        time_RN, variance_RN = _expected(mean_RN, scales_R[:, None], low_N, high_N)
        new_RP = regress(time_RN)
        square_RN = variance_RN + (time_RN - new_RP @ design_NP.T) ** 2
        # Runs that fall into one interval would let the scale go to 0, where the likelihood is flat.
        scales_R = np.sqrt(np.maximum((weights_RN * square_RN).sum(axis=1) / weights_RN.sum(axis=1), 1e-4))
        moved, coefficients_RP = np.abs(new_RP - coefficients_RP).max(), new_RP
        if moved < TOLERANCE:
            break
    return coefficients_RP


def _expected(
    mean_RN: np.ndarray, scale_R1: np.ndarray, low_N: np.ndarray, high_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each log time, given its interval."""
    a_RN = np.clip((low_N - mean_RN) / scale_R1, -LIMIT, LIMIT)
    b_RN = np.clip((high_N - mean_RN) / scale_R1, -LIMIT, LIMIT)
    flip_RN = a_RN > 0  # in the upper tail, differences of the distribution function would cancel
    a_RN, b_RN = np.where(flip_RN, -b_RN, a_RN), np.where(flip_RN, -a_RN, b_RN)
    below_a_RN, below_b_RN = (torch.special.ndtr(torch.from_numpy(z)).numpy() for z in (a_RN, b_RN))
    inside_RN = np.maximum(below_b_RN - below_a_RN, 1e-300)
    density_a_RN, density_b_RN = (np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) for z in (a_RN, b_RN))
    shift_RN = np.clip((density_a_RN - density_b_RN) / inside_RN, a_RN, b_RN)
    variance_RN = 1 + (a_RN * density_a_RN - b_RN * density_b_RN) / inside_RN - shift_RN**2
    shift_RN = np.where(flip_RN, -shift_RN, shift_RN)
    return mean_RN + scale_R1 * shift_RN, scale_R1**2 * np.clip(variance_RN, 0, 1)


def interval(replicates: np.ndarray) -> tuple[float, float] | None:
    """95 % percentile interval of bootstrap replicates (R,); None where too many of them (NaN) are not identified.

    A replicate that is not identified may lie anywhere, so it counts once beyond each end.
    """
    missing = np.isnan(replicates).mean()
    tail = (1 - 0.95) / 2 - missing
    if tail <= 0:
        return None
    kept = replicates[~np.isnan(replicates)]
    low, high = np.quantile(kept, np.array([tail, 1 - missing - tail]) / (1 - missing))
    return float(low), float(high)
