"""Shapes: tables that say how the effect of a column runs over its values.

A shape is ``[[18, -1.0], [30, 0.2], [45, 1.0]]`` for a column of numbers, in the column's own
units, or ``{"none": 1.0, "gas": -0.5}`` for one of categories. Effects are relative: from -1, where
the column speaks most against the class (or lowers the target), to 1, where it speaks most for it.
How strong the column is as a whole is what its score says.
"""

from collections.abc import Mapping
from itertools import pairwise
from numbers import Real

import numpy as np

SUFFIX = "_shape"  # of the column that a shape makes
LARGEST_EFFECT = 1
LARGEST_VALUE = 1e300  # an int may be too large for a float


def check_shape(shape, name, where=""):
    """Return a shape with plain numbers, or raise an error that names its column.

    Parameters
    ----------
    shape : list of [value, effect], or dict of category to effect
    name : str
        Column, for the error.
    where : str, default=""
        What else the error says about the place.

    Returns
    -------
    list of [float, float], or dict of str to float

    Raises
    ------
    ValueError
        If there are fewer than two points, a number is not finite, the values do not increase, or
        an effect is not from -1 to 1.
    """
    of = f"The shape of {name!r}{where}"
    if isinstance(shape, Mapping):
        if not shape:
            raise ValueError(f"{of} has no categories.")
        for category in shape:
            if not isinstance(category, str):
                raise ValueError(f"{of} has the category {category!r}, which is not a str.")
        return {category: _effect(e, f"{of} at {category!r}") for category, e in shape.items()}
    points = shape.tolist() if isinstance(shape, np.ndarray) else shape
    if not isinstance(points, (list, tuple)) or not all(
        isinstance(point, (list, tuple)) and len(point) == 2 for point in points
    ):
        raise ValueError(
            f"{of} is {shape!r:.100}; it must be a list of [value, effect], or "
            "{category: effect} for a column of categories."
        )
    if len(points) < 2:
        raise ValueError(f"{of} has {len(points)} point(s); at least two are needed.")
    table: list[list] = []
    for value, effect in points:
        value = _number(value, f"{of} has the value")
        if table and value <= table[-1][0]:
            raise ValueError(
                f"{of} goes from the value {table[-1][0]} to {value}; the values must increase."
            )
        table.append([value, _effect(effect, f"{of} at {value}")])
    return table


def mean_shape(shapes):
    """Average several shapes of one column.

    Lines between knots average to lines between the union of the knots, so that nothing is lost. A
    category that one of them leaves out counts there as 0, no effect.

    Parameters
    ----------
    shapes : list of shapes
        All of numbers or all of categories.

    Returns
    -------
    list of [float, float], or dict of str to float
    """
    if isinstance(shapes[0], Mapping):
        categories = dict.fromkeys(category for shape in shapes for category in shape)
        return {c: float(np.mean([shape.get(c, 0.0) for shape in shapes])) for c in categories}
    knots = np.unique([value for shape in shapes for value, _ in shape])
    effects = np.mean([interpolate(shape, knots) for shape in shapes], axis=0)
    return np.column_stack([knots, effects]).tolist()


def interpolate(shape, values):
    """Effects at some values: linear between the knots, constant outside, NaN stays NaN."""
    knots, effects = np.transpose(shape)
    return np.interp(values, knots, effects)


def bends(shape):
    """Whether a score with one sign cannot say what the shape says."""
    return direction(shape) == 0


def direction(shape) -> int:
    """Sign of the effect if it only rises (1) or only falls (-1) with the value, else 0."""
    if isinstance(shape, Mapping):
        return 0
    steps = [after[1] - before[1] for before, after in pairwise(shape)]
    rises, falls = sum(max(s, 0.0) for s in steps), sum(max(-s, 0.0) for s in steps)
    # Between readings that bend at different values, the mean may turn by next to nothing.
    slack = 0.1 * (rises + falls)
    return (falls <= slack < rises) - (rises <= slack < falls)


def _number(value, of):
    is_number = isinstance(value, Real) and not isinstance(value, (bool, np.bool_))
    if not is_number or not abs(value) < LARGEST_VALUE:  # NaN is not less, either
        raise ValueError(f"{of} {value!r:.50}, which is not a finite number.")
    return int(value) if isinstance(value, int) else float(value)


def _effect(effect, of):
    effect = _number(effect, f"{of} has the effect")
    if abs(effect) > LARGEST_EFFECT:
        raise ValueError(
            f"{of} has the effect {effect}; effects go from -{LARGEST_EFFECT} to {LARGEST_EFFECT}."
        )
    return effect
