"""Fits the critical batch size, at which a run takes twice the least number of steps and twice the least images.

McCandlish et al. 2018 (1812.06162): (S/S_min - 1)(E/E_min - 1) = 1 for S steps and E images to a target.
With E = B·S this is S = S_min + E_min/B, and B_crit = E_min/S_min. The fit is made in logarithms, because the errors of
runs are relative and steps span decades.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FEWEST_SIZES = 3  # two parameters, and one more point that can contradict them
WIDEST_INTERVAL = 30  # upper end / lower end; if it is wider, scatter hides the bend
FARTHEST = 10  # a B_crit that is farther from the sizes than this factor is a guess about sizes that were not run

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CriticalBatch:
    s_min: float  # steps at an infinite batch
    e_min: float  # images at batch size 1
    b_crit: float
    interval: tuple[float, float]  # the 95 % interval of b_crit, from the residuals
    misfit: float  # typical relative distance of the points from the curve

    def steps(self, batch_size: float) -> float:
        return self.s_min + self.e_min / batch_size


def fit(steps: Sequence[float], images: Sequence[float]) -> CriticalBatch | None:
    """Fit one point per batch size. Return None if the points don't determine the curve; `why_not` says why."""
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
    """Say why `fit` returned None."""
    if len(steps) < FEWEST_SIZES:
        return f"only {len(steps)} batch sizes reached the target in every run, {FEWEST_SIZES} are needed"
    return "over these batch sizes steps to target against batch size have no clear bend"


def start(S: Array, B: Array) -> Array:
    """Estimate log S_min and log E_min by least squares, as S = S_min + E_min/B is linear in both."""
    from scipy.optimize import nnls

    s_min, e_min = nnls(np.stack([1 / S, 1 / (B * S)], axis=1), np.ones_like(S))[0]
    smallest = 1e-3  # as a share of the smallest point; a zero has no logarithm
    return np.log([max(s_min, smallest * S.min()), max(e_min, smallest * (B * S).min())])


def interval_95(jacobian: Array, misfit: float, b_crit: float, freedom: int) -> tuple[float, float] | None:
    """The interval from the covariance of the two logarithms and Student's t, or None if it is too wide."""
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
