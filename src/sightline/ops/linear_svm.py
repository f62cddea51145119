"""A linear support vector machine: the convex problem solved by L-BFGS, in double precision, the same every time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightline.errors import SightlineError, UsageError


def machine(
    x: NDArray, y: NDArray, *, c: float | NDArray = 1.0, bias: float = 1.0, lower: NDArray | None = None
) -> tuple[NDArray[np.float64], float]:
    """Weights `(D,)` and bias of one machine that says + or -.

    x: `(N, D)`. y: `(N,)`, 1 or -1. It minimises |w|^2 / 2 + (b / bias)^2 / 2 + sum c max(0, 1 - y (w x + b))^2
    (LIBLINEAR's L2-regularised squared hinge; `bias` is the feature that every x has besides). c: of all, or `(N,)`.
    lower: `(D,)`, bounds that the weights stay above.
    """
    from scipy.optimize import minimize

    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)

    def value(v: NDArray) -> tuple[float, NDArray]:
        gap = np.maximum(0, 1 - y * (x @ v[:-1] + v[-1] * bias))
        slope = -2 * (c * y * gap)
        return float(0.5 * (v @ v) + (c * gap**2).sum()), v + np.append(x.T @ slope, slope.sum() * bias)

    start = np.zeros(x.shape[1] + 1)
    bounds = None
    if lower is not None:
        bounds = [*((None if low == -np.inf else float(low), None) for low in lower), (None, None)]
        start[:-1] = np.maximum(start[:-1], lower)
    found = minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000}).x
    return found[:-1], float(found[-1] * bias)


def linear_svm(x: np.ndarray, labels: np.ndarray, classes: int = 2, *, c: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Weights `(classes, D)` and biases `(classes,)` of one machine for each class against the rest.

    x: `(N, D)`. labels: `(N,)` ids from 0. With two classes the first machine is the second one's opposite. Raises
    `SightlineError` when a label or a value is out of range.
    """
    x, labels = np.asarray(x, np.float64), np.asarray(labels)
    if x.ndim != 2 or len(x) != len(labels) or not c > 0:
        raise UsageError(
            f"features of shape {x.shape} and {len(labels)} labels, c={c}: expected (N, D), N and c above 0"
        )
    if not np.isfinite(x).all() or labels.min() < 0 or labels.max() >= classes:
        raise SightlineError(f"features must be finite and labels lie in 0 to {classes - 1}; look at the data")
    if classes == 2:
        weights, bias = machine(x, np.where(labels == 1, 1.0, -1.0), c=c)
        return np.stack([-weights, weights]), np.array([-bias, bias])
    found = [machine(x, np.where(labels == k, 1.0, -1.0), c=c) for k in range(classes)]
    return np.stack([weights for weights, _ in found]), np.array([bias for _, bias in found])
