"""A linear support vector machine: the convex problem solved by L-BFGS, in double precision, the same every time."""

from __future__ import annotations

import numpy as np

from sightline.errors import SightlineError, UsageError


def linear_svm(x: np.ndarray, labels: np.ndarray, classes: int = 2, *, c: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Weights `(classes, D)` and biases `(classes,)` of one machine for each class against the rest.

    x: `(N, D)`. labels: `(N,)` ids from 0. Each minimises |w|^2 / 2 + b^2 / 2 + c sum max(0, 1 - y (w x + b))^2
    (LIBLINEAR's L2-regularised squared hinge, whose bias is a feature of ones). With two classes the first machine is
    the second one's opposite. Raises `SightlineError` when a label or a value is out of range.
    """
    from scipy.optimize import minimize

    x, labels = np.asarray(x, np.float64), np.asarray(labels)
    if x.ndim != 2 or len(x) != len(labels) or not c > 0:
        raise UsageError(
            f"features of shape {x.shape} and {len(labels)} labels, c={c}: expected (N, D), N and c above 0"
        )
    if not np.isfinite(x).all() or labels.min() < 0 or labels.max() >= classes:
        raise SightlineError(f"features must be finite and labels lie in 0 to {classes - 1}; look at the data")
    ones = np.concatenate([x, np.ones((len(x), 1))], axis=1)

    def machine(y: np.ndarray) -> np.ndarray:
        def value(w: np.ndarray) -> tuple[float, np.ndarray]:
            gap = np.maximum(0, 1 - y * (ones @ w))
            return float(0.5 * (w @ w) + c * (gap @ gap)), w - 2 * c * (ones.T @ (y * gap))

        return minimize(value, np.zeros(ones.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x

    if classes == 2:
        one = machine(np.where(labels == 1, 1.0, -1.0))
        found = np.stack([-one, one])
    else:
        found = np.stack([machine(np.where(labels == k, 1.0, -1.0)) for k in range(classes)])
    return found[:, :-1], found[:, -1]
