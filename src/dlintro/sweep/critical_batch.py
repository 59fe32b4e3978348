"""The critical batch size: where half the steps saved by a larger batch are paid for with twice the images.

McCandlish et al. 2018 (1812.06162): (S/S_min - 1)(E/E_min - 1) = 1 for S steps and E images to a target.
With E = B·S it reads S = S_min + E_min/B, and B_crit = E_min/S_min. Fitted in logarithms: errors of runs are relative,
and steps span decades.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FEWEST_SIZES = 3  # two parameters and one point to contradict them
WIDEST_INTERVAL = 30  # upper end / lower end; beyond, the bend is lost in the scatter
FARTHEST = 10  # B_crit beyond the sizes by more than this factor is a guess about sizes nobody ran

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CriticalBatch:
    s_min: float  # steps at an infinite batch
    e_min: float  # images at batch size 1
    b_crit: float
    interval: tuple[float, float]  # of b_crit, 95 %, from the residuals
    misfit: float  # typical relative distance of the points from the curve

    def steps(self, batch_size: float) -> float:
        return self.s_min + self.e_min / batch_size


def fit(steps: Sequence[float], images: Sequence[float]) -> CriticalBatch | None:
    """One point per batch size. None where the points don't determine it; `why_not` says why."""
    from scipy.optimize import least_squares

    S, B = np.asarray(steps, float), np.asarray(images, float) / np.asarray(steps, float)
    if len(S) < FEWEST_SIZES:
        return None

    def residuals(log_parameters: Array) -> Array:
        s_min, e_min = np.exp(log_parameters)
        return np.asarray(np.log(s_min + e_min / B) - np.log(S))

    found = least_squares(residuals, start(S, B), method="lm")
    s_min, e_min = (float(value) for value in np.exp(found.x))
    b_crit = e_min / s_min
    misfit = float(np.sqrt(2 * found.cost / (len(S) - 2)))
    interval = interval_95(np.asarray(found.jac), misfit, b_crit, len(S) - 2)
    if not B.min() / FARTHEST <= b_crit <= B.max() * FARTHEST:
        return None
    return None if interval is None else CriticalBatch(s_min, e_min, b_crit, interval, misfit)


def why_not(steps: Sequence[float]) -> str:
    """Of a `fit` that is None."""
    if len(steps) < FEWEST_SIZES:
        return f"only {len(steps)} batch sizes reached the target in every run, {FEWEST_SIZES} are needed"
    return "over these batch sizes steps to target against batch size have no clear bend"


def start(S: Array, B: Array) -> Array:
    """log S_min and log E_min: S = S_min + E_min/B is linear in both, and neither may be negative."""
    from scipy.optimize import nnls

    s_min, e_min = nnls(np.stack([1 / S, 1 / (B * S)], axis=1), np.ones_like(S))[0]
    smallest = 1e-3  # of the points themselves: a zero has no logarithm
    return np.log([max(s_min, smallest * S.min()), max(e_min, smallest * (B * S).min())])


def interval_95(jacobian: Array, misfit: float, b_crit: float, freedom: int) -> tuple[float, float] | None:
    """From the covariance of the two logarithms at the minimum and Student's t; None where it is too wide."""
    from scipy.stats import t

    curvature = jacobian.T @ jacobian
    if np.linalg.cond(curvature) > 1e10:
        return None
    covariance = misfit**2 * np.linalg.inv(curvature)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]  # of log E_min - log S_min
    half = float(t.ppf(0.975, freedom) * np.sqrt(max(variance, 0.0)))
    if half > np.log(WIDEST_INTERVAL) / 2:
        return None
    return b_crit * float(np.exp(-half)), b_crit * float(np.exp(half))
