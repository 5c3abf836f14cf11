"""An edit of the last layer of a finished run: prototypes switched off, relabelled, merged and refitted."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.errors import DataError

_CLOSE = 5e-7  # prototypes.csv holds labels with six digits


@dataclass(frozen=True, eq=False)
class Edit:
    """Labels and importance of the m prototypes of a run. The methods return a changed copy.

    Attributes:
        labels: (m,) in the user's units.
        scores: (m,) importance r of Eq. 2 that a prototype has while it is on. It is 0 for those that cannot be
            switched on: those merged into a twin, and those that were already off in the run.
        on: (m,) bool.
        start: Labels and importance in the run, (m,) each.
        limits: Lowest and highest label of the run's prototypes.
        twins: Groups of prototypes with the same source patch.
        merges: Groups of twins that were merged into the first of each.
        refitted: Record of the last `editing.refit`, or None.
    """

    labels: np.ndarray
    scores: np.ndarray
    on: np.ndarray
    start: tuple[np.ndarray, np.ndarray]
    limits: tuple[float, float]
    twins: tuple[tuple[int, ...], ...] = ()
    merges: tuple[tuple[int, ...], ...] = ()
    refitted: dict[str, Any] | None = None

    @classmethod
    def of(cls, run: LoadedRun) -> "Edit":
        """Return the unchanged last layer of a run."""
        model, scores, to_user = run.settings.model, run.importance, run.store.scale.to_user
        limits = (to_user(model.prototype_label_min), to_user(model.prototype_label_max))
        return cls(run.labels, scores, scores > 0, (run.labels, scores), limits, tuple(run.twins))

    @property
    def importance(self) -> np.ndarray:
        """Importance r of Eq. 2, 0 where a prototype is off: (m,)."""
        return np.where(self.on, self.scores, 0.0)

    @property
    def new_labels(self) -> np.ndarray:
        """Whether the label differs from the run's, as for the first of merged twins: (m,) bool."""
        return np.abs(self.labels - self.start[0]) > _CLOSE

    @property
    def changed(self) -> bool:
        """Whether any label or importance differs from the run's."""
        return bool(self.new_labels.any()) or not np.array_equal(self.importance, self.start[1])

    def same(self, other: "Edit") -> bool:
        """Whether another edit of the run has the same labels and importance, so that all predictions are the same."""
        return np.array_equal(self.labels, other.labels) and np.array_equal(self.importance, other.importance)

    @property
    def provenance(self) -> dict[str, Any]:
        """Changes as plain values for the manifest: switched_off, relabelled {number: [old, new]}, merged, refitted."""
        merged_away = [j for group in self.merges for j in group[1:]]
        off = np.flatnonzero((self.start[1] > 0) & ~self.on)
        labels = zip(self.start[0], self.labels, strict=True)
        pairs = [[round(float(old), 6), round(float(new), 6)] for old, new in labels]
        return {
            "switched_off": [int(j) for j in off if j not in merged_away],
            "relabelled": {str(j): pairs[j] for j in np.flatnonzero(self.new_labels)},
            "merged": [list(group) for group in self.merges],
            "refitted": self.refitted,
        }

    def switched(self, prototypes: Iterable[int], on: bool) -> "Edit":
        """Switch prototypes on or off.

        Switched on again, a prototype has the importance it had before. One whose `scores` are 0 stays off. Raises
        DataError for an unknown prototype.
        """
        changed = self.on.copy()
        changed[self._checked(prototypes)] = on
        return replace(self, on=changed & (self.scores > 0))

    def relabelled(self, prototype: int, label: float) -> "Edit":
        """Change the label of a prototype. Its importance stays, and so do all contributions.

        Raises DataError for an unknown prototype, or a label outside the range of the run's prototype labels.
        """
        low, high = self.limits
        if not low - _CLOSE <= label <= high + _CLOSE:  # also refuses NaN
            raise DataError(f"label = {label}: must be from {low:g} to {high:g}, as the run's prototype labels")
        labels = self.labels.copy()
        labels[self._checked([prototype])] = label
        return replace(self, labels=labels)

    def merged(self, *groups: Iterable[int]) -> "Edit":
        """Merge groups of twins, which have the same similarity to every image; predictions stay.

        The first of a group (lowest number) gets the sum of the importance of those that are on (of all, if none is)
        and the mean of their labels, weighted by importance. The others are switched off for good. Raises DataError
        for prototypes that are not twins.
        """
        edit = self
        for group in groups:
            edit = edit._merged(group)
        return edit

    def _merged(self, group: Iterable[int]) -> "Edit":
        members = {int(j) for j in self._checked(group)}
        if len(members) < 2 or not any(members <= set(twins) for twins in self.twins):
            listed = ", ".join(" = ".join(map(str, twins)) for twins in self.twins)
            raise DataError(
                f"prototypes {', '.join(map(str, sorted(members)))}: only twins can be merged, at least two prototypes "
                f"from the same patch. {f'Twins of this run: {listed}' if listed else 'This run has none'}"
            )
        overlapping = [merged for merged in self.merges if members & set(merged)]
        first, *others = numbers = sorted(members.union(*overlapping))
        active = self.importance[numbers]
        parts = active if active.any() else self.scores[numbers]
        if not parts.any():  # all were off in the run
            return self
        labels, scores, on = self.labels.copy(), self.scores.copy(), self.on.copy()
        labels[first] = parts @ labels[numbers] / parts.sum()
        scores[first], scores[others] = parts.sum(), 0.0
        on[first], on[others] = active.any(), False
        merges = (*(m for m in self.merges if m not in overlapping), tuple(numbers))
        return replace(self, labels=labels, scores=scores, on=on, merges=merges)

    def _checked(self, prototypes: Iterable[int]) -> np.ndarray:
        numbers = np.array(list(prototypes), dtype=int)
        wrong = numbers[(numbers < 0) | (numbers >= len(self.labels))]
        if len(wrong):
            raise DataError(f"prototype {wrong[0]}: must be from 0 to {len(self.labels) - 1}")
        return numbers
