"""Intervals over patients and over folds, and verdicts on claims with a correction for their number.

Two sources of variation are kept apart: which patients were tested (`over_patients`), and which images the network was
trained on (`over_folds`). A claim holds only if it does for both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from insightr_nb.analysis.wording import with_interval

HOLDS, NOT, UNKNOWN = "holds", "does not hold", "these data cannot tell"
ALPHA = 0.05  # of a family of claims, and 1 - level of the intervals
FEWEST = 10  # patients for a p value: a bootstrap of fewer understates the spread


@dataclass(frozen=True)
class Estimate:
    """A mean, its 95 % interval, and the two-sided p value of the hypothesis that it equals `null`."""

    mean: float
    low: float
    high: float
    p: float
    null: float = 0.0

    def __str__(self) -> str:
        return self.text("+.3f")

    def text(self, form: str) -> str:
        """Format the mean with its interval, such as "50% (25% to 75%)" for the form ".0%"."""
        return with_interval(self.mean, self.low, self.high, form)


def over_patients(
    values: Sequence[float], patients: Sequence[str], null: float = 0.0, samples: int = 5000, seed: int = 0
) -> Estimate:
    """Mean with a percentile bootstrap over patients, since images of one patient are alike.

    Args:
        values: (N,), one per image, or per image and fold; NaN is left out.
        patients: (N,) patient of each value. All values of a patient are drawn together.
        null: Value that p refers to.
        samples: Number of bootstrap samples, which also limits how small p can be.
        seed: Seed of the bootstrap.

    Returns:
        The estimate. The interval is NaN for fewer than two patients, and where all are alike: one without width would
        promise that any other patient is too. p is NaN for fewer than ten patients.

    Example:
        >>> over_patients([1.0, 1.0, 3.0], ["a", "a", "b"]).mean
        1.6666666666666667
    """
    return ratio_over_patients(values, np.ones(len(values)), patients, null, samples, seed)


def ratio_over_patients(
    numerators: Sequence[float],
    denominators: Sequence[float],
    patients: Sequence[str],
    null: float = 0.0,
    samples: int = 5000,
    seed: int = 0,
) -> Estimate:
    """Ratio of two sums, with the bootstrap of `over_patients`.

    Args:
        numerators: (N,); NaN is left out together with its denominator.
        denominators: (N,).
        patients: (N,) patient of each pair. All pairs of a patient are drawn together.
        null: Value of the ratio that p refers to.
        samples: Number of bootstrap samples.
        seed: Seed of the bootstrap.

    Returns:
        The estimate, as of `over_patients`.

    Example:
        >>> ratio_over_patients([1.0, 2.0], [1.0, 5.0], ["a", "b"]).mean
        0.5
    """
    columns = {"above": np.asarray(numerators, float), "below": np.asarray(denominators, float)}
    frame = pd.DataFrame(columns | {"patient": np.asarray(patients)}).dropna()
    by_patient = frame.groupby("patient", sort=True)[["above", "below"]].sum().to_numpy()

    def ratio(above: np.ndarray, below: np.ndarray, axis: int = -1) -> np.ndarray:
        return above.sum(axis) / below.sum(axis)

    mean = float(frame["above"].sum() / frame["below"].sum()) if len(frame) else float("nan")
    unknown = Estimate(mean, float("nan"), float("nan"), float("nan"), null)
    if len(by_patient) < 2:
        return unknown
    found = stats.bootstrap(
        tuple(by_patient.T),
        ratio,
        paired=True,
        vectorized=True,
        n_resamples=samples,
        confidence_level=1 - ALPHA,
        method="percentile",
        rng=seed,
    )
    drawn = found.bootstrap_distribution
    beyond = min((drawn <= null).sum(), (drawn >= null).sum())
    p = min(1.0, 2 * (1 + beyond) / (1 + samples)) if len(by_patient) >= FEWEST else float("nan")
    if np.allclose(drawn, mean, rtol=1e-9, atol=0):
        return replace(unknown, p=p)
    return Estimate(mean, *map(float, found.confidence_interval), p, null)


def over_folds(values: Sequence[float], held_out_ratio: float, null: float = 0.0) -> Estimate:
    """Mean with the corrected t interval for folds whose training sets overlap.

    Nadeau and Bengio, "Inference for the generalization error", 2003: the variance of the mean is
    (1 / J + n_2 / n_1) times the variance over the J folds, where n_2 images are held out of those that are resampled,
    and n_1 are trained on. Here n_2 are the validation images: the test images are the same in every fold, and
    `over_patients` covers their choice.

    Args:
        values: (J,), one per fold.
        held_out_ratio: n_validation / n_training.
        null: Value that p refers to.

    Returns:
        The estimate; interval and p are NaN for fewer than two folds, and for folds with the same value, which says
        nothing about the variance: as small whole numbers, few folds are easily alike.

    Example:
        >>> print(over_folds([0.1, 0.2, 0.3], held_out_ratio=0.25))
        +0.200 (+0.010 to +0.390)
    """
    values = np.asarray(values, float)
    mean, count = float(values.mean()), len(values)
    if count < 2 or np.allclose(values, values[0], rtol=1e-9, atol=0):
        return Estimate(mean, float("nan"), float("nan"), float("nan"), null)
    error = float(values.std(ddof=1)) * (1 / count + held_out_ratio) ** 0.5
    half = error * float(stats.t.ppf(1 - ALPHA / 2, count - 1))
    return Estimate(mean, mean - half, mean + half, 2 * float(stats.t.sf(abs(mean - null) / error, count - 1)), null)


def effect(
    values: Sequence[float], rows: pd.DataFrame, null: float = 0.0, held_out_ratio: float = 0.0
) -> tuple[Estimate, ...]:
    """Estimate the mean of one measure, per image, by each source of variation.

    Args:
        values: (N,), one per row of `rows`; NaN is left out.
        rows: Has a column patient_id, and fold if the rows are of several folds.
        null: Value that p refers to.
        held_out_ratio: n_validation / n_training of the folds.

    Returns:
        The estimate over patients, and with several folds also that over folds, of the means of each.
    """
    sources = [over_patients(values, rows["patient_id"], null)]
    if "fold" in rows and rows["fold"].nunique() > 1:
        by_fold = pd.Series(np.asarray(values, float)).groupby(rows["fold"].to_numpy()).mean().dropna()
        sources.append(over_folds(by_fold, held_out_ratio, null))
    return tuple(sources)


@dataclass(frozen=True)
class Claim:
    """A claim about one or more effects, each of which must be above its `null` for the claim to hold.

    Attributes:
        text: The claim.
        effects: Estimates of each effect, one per source of variation. Orient effects so that the claim says "above".
        figures: The numbers behind it, for the reader.
    """

    text: str
    effects: tuple[tuple[Estimate, ...], ...]
    figures: str = ""

    @property
    def above(self) -> bool:
        """Whether every effect is above its null."""
        return all(sources[0].mean > sources[0].null for sources in self.effects)

    @property
    def p(self) -> float:
        """P value for the side on which the effects lie.

        For an effect, it is the largest over the sources, and for the claim the largest over the effects; NaN if any
        is. But if effects are not above, it is the smallest of theirs, times the number of effects (Bonferroni): the
        claim fails by one effect, whatever the others are. NaN if none of theirs is known.
        """
        largest = [np.max([source.p for source in sources]) for sources in self.effects]
        if self.above:
            return float(np.max(largest))
        wrong = [p for p, s in zip(largest, self.effects, strict=True) if s[0].mean <= s[0].null]
        return float(np.minimum(1.0, len(largest) * np.fmin.reduce(wrong)))


def holm(p: Sequence[float]) -> np.ndarray:
    """Adjust the p values of a family of claims (Holm, 1979): (n,), in the given order.

    NaN stays, and counts as the largest, so that a claim that cannot be judged does not make the others easier.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, float)
    order = np.argsort(p)[: (~np.isnan(p)).sum()]  # NaN sorts last
    adjusted = np.full(len(p), np.nan)
    factors = np.arange(len(p), 0, -1)[: len(order)]
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted


def judged(claims: Sequence[Claim]) -> pd.DataFrame:
    """Judge a family of claims.

    A claim holds if its p value, adjusted for the number of claims by `holm`, is below 0.05 and its effects are above;
    it does not hold if an effect is below with such a p value; otherwise these data cannot tell.

    Returns:
        Columns claim, verdict, p (adjusted) and figures, one row per claim in the given order.
    """
    adjusted = holm([claim.p for claim in claims])
    verdicts = [
        UNKNOWN if not p < ALPHA else HOLDS if claim.above else NOT for claim, p in zip(claims, adjusted, strict=True)
    ]
    return pd.DataFrame(
        {
            "claim": [claim.text for claim in claims],
            "verdict": verdicts,
            "p": adjusted,
            "figures": [claim.figures for claim in claims],
        }
    )
