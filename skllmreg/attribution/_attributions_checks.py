"""Check what `Attributions` are made of."""

from collections.abc import Mapping
from numbers import Real

import numpy as np

from skllmreg.attribution._columns import name_hint
from skllmreg.attribution._scores import check_score
from skllmreg.attribution._shapes import check_shape


def check_estimates(estimates, label=None):
    where = of_class(label)
    if isinstance(estimates, Mapping):
        estimates = [estimates]
    if not isinstance(estimates, (list, tuple)) or not estimates:
        raise ValueError(f"The estimates{where} are not a list of {{feature: score}}.")
    checked = []
    for i, scores in enumerate(estimates):
        if not isinstance(scores, Mapping) or not scores:
            raise ValueError(f"Estimate {i}{where} is no {{feature: score}}: {scores!r:.100}.")
        at = f"{where} in estimate {i}"
        checked.append({name: _score(score, name, at) for name, score in scores.items()})
    return checked


def is_shapes_by_class(shapes):
    """Whether shapes are given by class; an inner dict of numbers is a shape of categories."""
    return isinstance(shapes, Mapping) and all(
        isinstance(inner, Mapping) and not any(isinstance(item, Real) for item in inner.values())
        for inner in shapes.values()
    )


def check_feature_shapes(shapes, name, features, of):
    """Shapes of one feature; all of numbers, or all of categories."""
    if name not in features:
        raise ValueError(f"The shape of {name!r}{of} has no score{name_hint(str(name), features)}.")
    if not isinstance(shapes, (list, tuple)) or not shapes:
        raise ValueError(f"The shapes of {name!r}{of} must be a list of shapes.")
    checked = [check_shape(shape, name, of) for shape in shapes]
    if len({type(shape) for shape in checked}) > 1:
        raise ValueError(f"Some shapes of {name!r}{of} are of numbers, others of categories.")
    return checked


def check_alike(outputs):
    first = next(iter(outputs.values()))
    for label, estimates in outputs.items():
        of = of_class(label)
        if len(estimates) != len(first):
            raise ValueError(f"There are {len(estimates)} estimates{of}, not {len(first)}.")
        for i, scores in enumerate(estimates):
            if differ := list(scores.keys() ^ first[0].keys()):
                raise ValueError(
                    f"Estimate {i}{of} has other features than the first: {differ[:5]}."
                )


def _score(score, name, where):
    if not isinstance(name, str):
        raise ValueError(f"A feature{where} has the name {name!r}, which is not a string.")
    number = check_score(score, name, where)
    return int(number) if number.is_integer() else number


def plain_label(label):
    """Return a label of Python's own types, which JSON keeps."""
    label = label.item() if isinstance(label, np.generic) else label
    if not isinstance(label, (str, int, float, type(None))) or label != label:
        raise ValueError(f"A class label is a string or a number, got {label!r:.100}.")
    return label


def of_class(label):
    return "" if label is None else f" for class {label!r}"
