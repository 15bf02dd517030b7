"""
Which counts of a report may be told: those of a group that is too small to show must not follow from the others.

Source: secondary suppression and linked tables, Hundepool et al. 2012, Statistical Disclosure Control, sections 4.2 and
4.3, doi 10.1002/9781118348239.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import metrics

WITHHELD = {"n_positive": None, "n_patients": None}
EXACT = 1e-6  # sums of counts are whole numbers

Cell = dict[str, Any]


def within(cells: Sequence[Cell], sides: Sequence[metrics.Sides]) -> list[Cell]:
    """
    Return the cells of one attribute, the counts of some withheld: all counts add up to those of the whole.

    What is suppressed would follow from the rest, so the smallest of the others keep their counts to themselves until
    those without add up to what may be told. Their areas and intervals stay.

    Args:
        sides: of each cell, the suppressed too; see metrics.sides.
    """
    hidden = [i for i, cell in enumerate(cells) if cell["suppressed"]]
    others = sorted((i for i in range(len(cells)) if i not in hidden), key=lambda i: cells[i]["n"])
    while hidden and others and metrics.are_small(*np.sum([sides[i] for i in hidden], axis=0)):
        hidden.append(others.pop(0))
    return [{**cell, **WITHHELD} if i in hidden else cell for i, cell in enumerate(cells)]


def across(cells: Sequence[Cell], members: NDArray[np.bool_], sides: Sequence[metrics.Sides]) -> list[Cell]:
    """
    Return the cells of all attributes, the counts of some more withheld.

    A region is the sum of its countries, so what one attribute withholds may follow from another. While the count of
    something suppressed is a sum or difference of those told and of the whole, the smallest of these is withheld too.

    Args:
        members: (C, N), the images of each cell. sides: of each cell, as for within().
    """
    rows = np.unique(members, axis=1).astype(np.float64)  # images that share all their cells are told apart by none
    told = [i for i, cell in enumerate(cells) if cell["n_positive"] is not None]
    for secret in _secrets(cells, sides):
        while used := _followed(rows[secret].sum(axis=0), rows, told):
            told.remove(min(used, key=lambda i: cells[i]["n"]))
    return [cell if i in told else {**cell, **WITHHELD} for i, cell in enumerate(cells)]


def _secrets(cells: Sequence[Cell], sides: Sequence[metrics.Sides]) -> Iterator[list[int]]:
    """Yield what may not follow: every suppressed cell, and those of one attribute together where they are small."""
    suppressed: dict[str, list[int]] = {}
    for i, cell in enumerate(cells):
        if cell["suppressed"]:
            yield [i]
            suppressed.setdefault(cell["attribute"], []).append(i)
    for together in suppressed.values():
        if metrics.are_small(*np.sum([sides[i] for i in together], axis=0)):
            yield together


def _followed(wanted: NDArray[np.float64], rows: NDArray[np.float64], told: Sequence[int]) -> list[int]:
    """Return the told cells from which, with the whole, the count of `wanted` (K,) follows; empty: from none."""
    known = np.vstack([np.ones(rows.shape[1]), rows[list(told)]]).T
    weights = np.linalg.lstsq(known, wanted, rcond=None)[0]
    if np.abs(known @ weights - wanted).max() > EXACT:
        return []
    return [i for i, weight in zip(told, weights[1:], strict=True) if abs(weight) > EXACT]
