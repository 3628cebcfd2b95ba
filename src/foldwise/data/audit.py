"""What is wrong with the data: copies, groups on both sides, labels that contradict each other, blank images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from foldwise.base.params import CV
from foldwise.data.images import Images, Tables
from foldwise.data.near_copies import ENOUGH, MOST, near_copies
from foldwise.data.pixels import images_at_a_time
from foldwise.data.units import connected, copies_of, groups_of

# Images that a finding names.
EXAMPLES = 24


@dataclass(frozen=True)
class Known:
    """What is known of N training and then M test images.

    Attributes
    ----------
    groups, copies : (N + M,) int64
        Equal numbers for those of one group and for equal pixels; -1 for no group, and for blank images.
    names : sequence of str or None
        Their files.
    given : sequence of str or None
        Folds of the training images that were given from outside.
    """

    groups: NDArray[np.int64]
    copies: NDArray[np.int64]
    names: Sequence[str] | None
    given: Sequence[str] | None

    @classmethod
    def of(cls, data: Images, tables: Tables | None) -> Self:
        """Gather it from the images and their tables."""
        copies = copies_of(data.train_images, data.test_images)
        if tables is None:
            return cls(np.full(len(copies), -1), copies, None, None)
        given = tables[0]["fold"].tolist() if "fold" in tables[0] else None
        names = [name for table in tables for name in table["file_name"]]
        return cls(groups_of(*tables), copies, names, given)

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """Equal numbers for images that depend on each other, (N + M,), whether held out together or not."""
        return connected(self.groups, self.copies)

    def together(self, cv: CV) -> NDArray[np.int64]:
        """Equal numbers for images that folds are to hold out together, (N + M,)."""
        if (cv.groups, cv.copies) == ("together", "together"):
            return self.units
        nothing = np.full(len(self.copies), -1)
        groups = self.groups if cv.groups == "together" else nothing
        return connected(groups, self.copies if cv.copies == "together" else nothing)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or that a reader should know.

    Attributes
    ----------
    kind : str
    count : int
        Of images, or of what `says` counts.
    says : str
        In a line.
    examples : tuple of tuple of int
        Images that belong together, at most `EXAMPLES` in all; test images are counted on from the training images.
    """

    kind: str
    count: int
    says: str
    examples: tuple[tuple[int, ...], ...] = ()


def kept(known: Known, assignments: NDArray[np.int32]) -> dict[str, str]:
    """Say of groups and copies, where there are any in training, whether folds hold them out `together` or `torn`."""
    found = {}
    for name, values in (("groups", known.groups), ("copies", known.copies)):
        values = values[: assignments.shape[1]]
        if (np.unique(values[values >= 0], return_counts=True)[1] > 1).any():
            found[name] = "torn" if any(_torn(values, row).any() for row in assignments) else "together"
    return found


def audit(data: Images, known: Known, assignments: NDArray[np.int32], cv: CV) -> list[Finding]:
    """Look for all that is known to make a score too good, or a fold too hard.

    Parameters
    ----------
    data : Images
    known : Known
    assignments : (repeats, N) int32
    cv : CV
    """
    n = len(data.train_labels)
    labels = np.concatenate([data.train_labels, data.test_labels])
    apart = "test.apart is without them"
    if np.isin(known.units[n:], known.units[:n]).all():
        apart = "no test image is without any, so its score says nothing of new images"
    return [
        *_copies(known.copies, labels, assignments, cv, apart),
        *_groups(known.groups, n, assignments, cv, apart),
        *_sizes(assignments, known.together(cv)[:n], cv),
        *_classes(data, known, assignments),
        *_blank(data),
        *_near(data, known),
    ]


def _copies(
    copies: NDArray[np.int64], labels: NDArray[np.int64], assignments: NDArray[np.int32], cv: CV, apart: str
) -> Iterator[Finding]:
    """Copies in training, in training and test, and with different labels."""
    sets, n = _sets(copies), assignments.shape[1]
    within = [one for one in (tuple(i for i in one if i < n) for one in sets) if len(one) > 1]
    if within:
        count, how = sum(map(len, within)), "are held out together"
        if _torn(copies[:n], assignments[0]).any():
            why = "cv.copies is ignore" if cv.copies == "ignore" else f"cv.strategy is {cv.strategy}"
            how = f"are trained on and held out at once, as {why}"
        says = f"training images that are copies: {count:,}, of {len(within):,} different ones; they {how}"
        yield Finding("copies_in_training", count, says, _first(within))
    if across := [one for one in sets if one[0] < n <= one[-1]]:
        count = sum(i >= n for one in across for i in one)
        says = f"test images that are copies of training images: {count:,}; {apart}"
        yield Finding("copies_in_test", count, says, _first(across))
    if contrary := [one for one in sets if len(set(labels[list(one)])) > 1]:
        says = f"images with copies of another label: {len(contrary):,}; at most one label is right"
        yield Finding("contrary_labels", len(contrary), says, _first(contrary))


def _groups(groups: NDArray[np.int64], n: int, assignments: NDArray[np.int32], cv: CV, apart: str) -> Iterator[Finding]:
    """Groups in training and test, and in several folds."""
    of_training = groups[:n]
    across = np.intersect1d(of_training[of_training >= 0], groups[n:])
    if len(across):
        pairs = [tuple(int(np.flatnonzero(groups == group)[end]) for end in (0, -1)) for group in across[:EXAMPLES]]
        says = f"groups in training and test: {len(across):,}; {apart}"
        yield Finding("groups_in_test", len(across), says, _first(pairs))
    torn = _torn(of_training, assignments[0])
    if torn.any():
        why = "cv.groups is ignore" if cv.groups == "ignore" else f"cv.strategy is {cv.strategy}"
        says = f"groups in several folds: {torn.sum():,} of {len(torn):,}, as {why}; scores are not of new groups"
        yield Finding("groups_in_several_folds", int(torn.sum()), says)


def _sizes(assignments: NDArray[np.int32], together: NDArray[np.int64], cv: CV) -> Iterator[Finding]:
    """Folds of a repeat of which one holds out more than twice as many images as another."""
    sizes = [np.bincount(row, minlength=cv.k) for row in assignments]
    least, most = min(((int(row.min()), int(row.max())) for row in sizes), key=lambda ends: ends[0] / ends[1])
    if most > 2 * least:
        says = f"folds are uneven: they hold out {least:,} to {most:,} images"
        largest = np.flatnonzero(together == np.bincount(together).argmax()).tolist()
        is_why = cv.strategy == "stratified" and len(largest) > len(together) / cv.k
        if is_why:
            says += f", as {len(largest):,} are of one group, or copies"
        elif cv.strategy == "kfold":
            says += ", as kfold deals groups whatever their sizes; cv.strategy stratified evens them out"
        yield Finding("uneven_folds", most, says, _first([tuple(largest)] * is_why))


def _torn(kinds: NDArray[np.int64], folds: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether each value of a kind, below 0 none, has images in several folds."""
    pairs = np.unique(np.stack([kinds, folds])[:, kinds >= 0], axis=1)
    return np.asarray(np.unique(pairs[0], return_counts=True)[1] > 1)


def _classes(data: Images, known: Known, assignments: NDArray[np.int32]) -> Iterator[Finding]:
    """Classes that a part of the data lacks, and those that have too few groups."""
    everywhere = range(len(data.classes))
    folds = int(assignments.max()) + 1
    held_out = np.zeros((len(data.classes), len(assignments), folds), bool)
    for repeat, row in enumerate(assignments):
        held_out[data.train_labels, repeat, row] = True
    groups = np.unique(np.stack([data.train_labels, known.groups[: len(data.train_labels)]]), axis=1)
    in_groups = np.bincount(groups[0, groups[1] >= 0], minlength=len(data.classes))
    lacking = {
        "training": ("no training image is of", ~np.isin(everywhere, data.train_labels)),
        "test": ("no test image is of", len(data.test_labels) > 0 and ~np.isin(everywhere, data.test_labels)),
        "a_fold": ("not every fold holds out an image of", held_out.any(axis=(1, 2)) & ~held_out.all(axis=(1, 2))),
        "groups": (f"there are groups, but fewer than {folds}, of", (in_groups > 0) & (in_groups < folds)),
    }
    for what, (says, which) in lacking.items():
        if names := [data.classes[place] for place in np.flatnonzero(which)]:
            more = f" and {len(names) - 10} more classes" if len(names) > 10 else ""
            yield Finding(f"classes_lacking_in_{what}", len(names), f"{says} {', '.join(names[:10])}{more}")


def _blank(data: Images) -> Iterator[Finding]:
    blank = []
    for first, images in ((0, data.train_images), (len(data.train_labels), data.test_images)):
        step = images_at_a_time(images)
        for start in range(0, len(images), step):
            some = images[start : start + step]
            is_blank = (some == some[:, :, :1, :1]).all(axis=(1, 2, 3))
            blank += [(first + start + int(place),) for place in np.flatnonzero(is_blank)]
    if blank:
        says = f"blank images, all pixels of one value: {len(blank):,}"
        yield Finding("blank", len(blank), says, _first(blank))


def _near(data: Images, known: Known) -> Iterator[Finding]:
    """Pairs that look alike, but for those that are known to belong together."""
    pairs = near_copies(data.train_images, data.test_images, known.copies, known.units)
    if pairs is not None and len(pairs):
        count = f"{len(pairs):,}" if len(pairs) < ENOUGH else f"{ENOUGH:,} or more"
        says = f"pairs of images that look alike: {count}; name those that are one as a group, if there are any"
        yield Finding("near_copies", len(pairs), says, _first([(int(i), int(j)) for i, j in pairs[:EXAMPLES]]))


def lines(findings: Sequence[Finding], data: Images, known: Known) -> list[str]:
    """Put findings in lines for the console; in one what was checked where there are none."""
    n = len(data.train_labels) + len(data.test_labels)
    groups = "groups, " if (known.groups >= 0).any() else ""
    near = ", near copies" if n <= MOST else ""
    checked = f"audit of {n:,} images (copies, {groups}labels, classes, blank images{near})"
    if not findings:
        return [f"{checked}: nothing found"]
    return [f"{checked}: {len(findings)} finding{'s' * (len(findings) > 1)}"] + [
        f"finding {number}: {finding.says}{_examples(finding, known.names)}"
        for number, finding in enumerate(findings, 1)
    ]


def content(findings: Sequence[Finding], data: Images, known: Known) -> dict[str, Any]:
    """Put findings in what `audit.json` holds."""
    n = len(data.train_labels)

    def image(index: int) -> dict[str, Any]:
        place = {"images": "training", "index": index} if index < n else {"images": "test", "index": index - n}
        return place | ({"file_name": known.names[index]} if known.names else {})

    return {
        "images": n + len(data.test_labels),
        "findings": [
            {
                "number": number,
                "kind": finding.kind,
                "count": finding.count,
                "says": finding.says,
                "examples": [[image(index) for index in one] for one in finding.examples],
            }
            for number, finding in enumerate(findings, 1)
        ],
    }


def _sets(values: NDArray[np.int64]) -> list[tuple[int, ...]]:
    """The images that have a value in common, ascending, for each value that several have."""
    order = np.argsort(values, kind="stable")
    order = order[values[order] >= 0]
    cuts = np.flatnonzero(np.diff(values[order])) + 1
    ends = np.append(cuts, len(order))
    starts = np.insert(cuts, 0, 0)
    return sorted(tuple(order[start:end].tolist()) for start, end in zip(starts, ends, strict=True) if end - start > 1)


def _first(sets: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """As many sets, each of at most four images, as make up the examples of a finding."""
    kept: list[tuple[int, ...]] = []
    for one in sets:
        if sum(map(len, kept)) + min(len(one), 4) > EXAMPLES:
            break
        kept.append(one[:4])
    return tuple(kept)


def _examples(finding: Finding, names: Sequence[str] | None) -> str:
    if not finding.examples or not names:
        return ""
    first = finding.examples[0]
    more = ", ..." if len(finding.examples) > 1 or len(first) > 3 else ""
    return f" ({' = '.join(names[index] for index in first[:3])}{more})"
