"""How far must a number lie from the others of a small cohort to stand out.

Draws cohorts of equal runs (normal deviates), takes the farthest run of each and prints how far it lies, in
robust standard deviations, in half, 5 % and 1 % of the cohorts; then, for the thresholds that soct uses, how
often a cohort of equals has an outlier, and how far (in true standard deviations) a single bad run must lie
to be found in nine of ten cohorts.

    python benchmarks/cohort.py [--cohorts 200000]
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from soct.report.cohort.places import THRESHOLDS


def robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    middle = np.median(values, axis=1, keepdims=True)
    distance = np.abs(values - middle)
    return distance / (1.4826 * np.median(distance, axis=1, keepdims=True))


def distance_found(rng: np.random.Generator, count: int, threshold: float, cohorts: int) -> float:
    """Smallest distance of a bad run that nine of ten cohorts show."""
    values = rng.standard_normal((cohorts, count))
    for distance in np.geomspace(2, 1000, 80):
        planted = values.copy()
        planted[:, 0] += distance
        if np.mean(robust_z(planted)[:, 0] >= threshold) >= 0.9:
            return float(distance)
    return float("inf")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cohorts", type=int, default=200_000)
    cohorts = parser.parse_args().cohorts
    rng = np.random.default_rng(0)
    print("runs   median    95 %    99 %   used   false alarms   found in 9 of 10 from")
    for count, threshold in THRESHOLDS:
        drawn = min(cohorts, 20_000_000 // count)
        farthest = robust_z(rng.standard_normal((drawn, count))).max(axis=1)
        half, most, nearly_all = np.quantile(farthest, (0.5, 0.95, 0.99))
        false = float(np.mean(farthest >= threshold))
        found = distance_found(rng, count, threshold, 4000)
        print(
            f"{count:>4} {half:>8.1f} {most:>7.1f} {nearly_all:>7.1f} {threshold:>6.1f} "
            f"{100 * false:>12.2f} % {found:>18.1f} sd"
        )


if __name__ == "__main__":
    main()
