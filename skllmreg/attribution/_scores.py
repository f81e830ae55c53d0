"""Attribution scores as the user gives them: checked, matched by name, turned into targets.

No estimator lives here. Scores become one array ``estimates`` of shape (n_estimates, n_outputs,
n_features): n_outputs is 1 for a regression and for two classes (it speaks for ``classes_[1]``),
the number of classes otherwise.
"""

from collections.abc import Callable, Mapping
from numbers import Real

import numpy as np

from skllmreg.attribution._columns import column_shares
from skllmreg.attribution._features import few
from skllmreg.exceptions import UnscoredColumnsWarning
from skllmreg.utils._labels import about_numbers
from skllmreg.utils._warn import warn

SCALE = 10  # scores go from -10 to 10


def parse_attributions(attributions, feature_names, n_features, classes=None, X=None):
    """Check the scores in any of the forms that the estimators take.

    Parameters
    ----------
    attributions : dict, list of dict, array or object with ``to_estimates()``
        See :class:`LLMAttributionRegularizedClassifier`.
    feature_names : sequence of str or None
        Names of the columns of X; None where X has none.
    n_features : int
    classes : array of shape (n_classes,), default=None
        None for a regression.
    X : {ndarray, sparse matrix} of shape (n_samples, n_features), default=None
        The values, which tell columns that an encoder made from others; see `column_shares`.

    Returns
    -------
    ndarray of shape (n_estimates, n_outputs, n_features)

    Raises
    ------
    ValueError
        If a score is missing, given twice, not a finite number or outside -10 to 10; if a class has
        no scores; if X has no names but the scores do.
    """
    labels: list = []
    unscored: dict[str, None] = {}
    shapes_of: Callable = getattr(attributions, "mean_shapes", lambda label: {})
    if hasattr(attributions, "to_estimates"):
        attributions = attributions.to_estimates()

    def one_output(scores, label=None):
        def shares(names):
            found, without = column_shares(
                feature_names, names, X, shapes=shapes_of(label), label=label, labels=labels
            )
            unscored.update(dict.fromkeys(without))
            return found

        of = "" if label is None else f" for class {label!r}"
        return _parse_output(scores, feature_names, n_features, of, shares)

    estimates = _parse_outputs(attributions, classes, one_output, labels)
    if unscored:
        warn(
            f"{len(unscored)} of {len(feature_names)} columns get the score 0, since none of the "
            f"given scores applies to them: {few(unscored)}. To score the categories of a column, "
            'score each, as in {"city_Rome": 3}, or give the column a shape of categories.',
            UnscoredColumnsWarning,
        )
    return estimates


def _parse_outputs(attributions, classes, one_output, labels):
    """Estimates of all outputs; `labels` takes the scored classes before they are parsed."""
    if classes is None:
        if is_by_class(attributions):
            raise ValueError(
                "attributions has scores by class, but this is a regression: give "
                "{feature: score}, for what a larger value does to the target."
            )
        return one_output(attributions)[:, None]
    classes = np.asarray(classes).tolist()
    if is_by_class(attributions):
        keys = _match_classes(attributions, classes)
        labels.extend(keys if len(keys) > 1 else ())
        outputs = [one_output(attributions[k], k) for k in keys]
        lengths = {len(output) for output in outputs}
        if len(lengths) > 1:
            raise ValueError(
                "Each class needs the same number of estimates; got "
                + ", ".join(f"{len(o)} for {k!r}" for k, o in zip(keys, outputs, strict=True))
            )
        if len(classes) > 2:
            return np.stack(outputs, axis=1)
        # Two classes are one question: what speaks for classes_[0] speaks against classes_[1].
        signed = [
            output if key == classes[1] else -output
            for key, output in zip(keys, outputs, strict=True)
        ]
        return np.mean(signed, axis=0)[:, None]
    if len(classes) > 2:
        raise ValueError(
            f"With {len(classes)} classes, attributions must say which class each score speaks "
            "for: {class: {feature: score}} with the classes " + ", ".join(map(repr, classes))
        )
    return one_output(attributions)[:, None]


def is_by_class(attributions):
    """Whether scores are given as ``{class: scores}``, and not as ``{feature: score}``."""
    return isinstance(attributions, Mapping) and all(
        isinstance(scores, (Mapping, list, tuple)) or np.ndim(scores) > 0
        for scores in attributions.values()
    )


def is_named(attributions):
    """Whether scores are given by the names of the columns, and not by their positions."""
    if hasattr(attributions, "to_estimates"):
        return True
    outputs = attributions.values() if is_by_class(attributions) else [attributions]
    outputs = [_with_names(scores) for scores in outputs]
    return all(
        isinstance(scores, Mapping)
        or (isinstance(scores, (list, tuple)) and any(isinstance(s, Mapping) for s in scores))
        for scores in outputs
    )


def _with_names(scores):
    """Turn a data frame (a row per estimate) or a series with names into dicts."""
    columns, index = getattr(scores, "columns", None), getattr(scores, "index", None)
    names = columns if columns is not None else None if callable(index) else index
    if names is None or not all(isinstance(name, str) for name in names):
        return scores
    rows = [
        dict(zip(names, row, strict=True)) for row in np.atleast_2d(np.asarray(scores)).tolist()
    ]
    repeated = {name for name in names if list(names).count(name) > 1}
    if repeated:
        raise ValueError(f"The scores of {sorted(repeated)} are given twice.")
    return rows


def _match_classes(attributions, classes):
    """Keys of the scored classes in the order of `classes`; for two classes one may be absent."""
    known = [c for c in classes if c in attributions]
    enough = len(known) >= 1 if len(classes) == 2 else len(known) == len(classes)
    if not enough:
        absent = ", ".join(repr(c) for c in classes if c not in attributions)
        raise ValueError(
            f"No attribution scores for the class(es) {absent}; attributions has the keys "
            f"{', '.join(map(repr, attributions))}. A key must equal a class label, type included."
            f"{about_numbers(classes, attributions)}"
        )
    return known


def _parse_output(scores, feature_names, n_features, of, shares):
    """Estimates of one output: (n_estimates, n_features); `shares` matches scored names."""
    scores = [scores] if isinstance(scores, Mapping) else _with_names(scores)
    if isinstance(scores, (list, tuple)) and any(isinstance(s, Mapping) for s in scores):
        for name in (name for estimate in scores for name in estimate):
            if not isinstance(name, str):
                raise ValueError(f"The scores{of} name a feature {name!r}, which is not a string.")
        if feature_names is None:
            raise ValueError(
                "The attribution scores have feature names, but X has none. Give X as a data frame "
                "whose column names are all strings (in a pipeline: "
                '`.set_output(transform="pandas")` on the steps before), '
                "or give the scores as an array in the order of the columns."
            )
        where = [of if len(scores) == 1 else f"{of} in estimate {i}" for i in range(len(scores))]
        rows, found = [], {}
        for estimate, place in zip(scores, where, strict=True):
            if (names := frozenset(estimate)) not in found:  # mostly the same in all estimates
                found[names] = shares(names)
            used = {share.name for share in found[names]} - {None}
            checked = {name: check_score(estimate[name], name, place) for name in used}
            rows.append([share.of(checked) for share in found[names]])
        return np.array(rows, dtype=float)
    try:
        array = np.asarray(scores, dtype=float)
    except (OverflowError, TypeError, ValueError):
        raise ValueError(
            "attributions must be {feature: score}, a list of such, an array of shape "
            "(n_features,) or (n_estimates, n_features), or {class: one of these}; "
            f"got {type(scores).__name__}{of}."
        ) from None
    array = np.atleast_2d(array)
    if array.ndim != 2 or array.shape[1] != n_features or not len(array):
        raise ValueError(
            f"attributions{of} has shape {np.shape(scores)}, but X has {n_features} features; "
            "expected (n_features,) or (n_estimates, n_features)."
        )
    for row, column in np.argwhere(~(np.abs(array) <= SCALE)):
        name = column if feature_names is None else feature_names[column]
        check_score(array[row, column], name, of)
    return array


def check_score(score, name, where):
    """Return a score as a float, or say what is wrong with it."""
    if isinstance(score, (bool, np.bool_)) or not isinstance(score, Real):
        raise ValueError(f"The score of {name!r}{where} is {score!r}, not a number.")
    if isinstance(score, int) and abs(score) > 10**9:  # it may be too large for a float
        raise ValueError(f"The score of {name!r}{where} is not from -{SCALE} to {SCALE}.")
    value = float(score)
    if not np.isfinite(value):
        raise ValueError(f"The score of {name!r}{where} is {score}; it must be finite.")
    if abs(value) > SCALE:
        raise ValueError(
            f"The score of {name!r}{where} is {score}; scores go from -{SCALE} to {SCALE}."
        )
    return value


def _expm1(width):
    def transform(scores):
        return np.sign(scores) * np.expm1(np.abs(scores) / width)

    return transform


# How scores become a direction: the wider, the more of the features count.
SCORE_TRANSFORMS = {
    "identity": np.asarray,
    "expm1": _expm1(2),
    "exp": lambda scores: np.sign(scores) * np.exp(np.abs(scores)),
}
# What ``gamma="auto"`` averages over beside the scores as they are, with prior weights.
AVERAGED_TRANSFORMS = {
    "expm1(|s|/2)": (_expm1(2), 0.5),
    "expm1(|s|/3)": (_expm1(3), 0.2),
    "expm1(|s|)": (_expm1(1), 0.3),
}


FLAT_WEIGHT = 0.3  # prior weight of the scores as they are, where rows are many


def averaged_transforms(n_rows, n_features):
    """Score transforms that ``gamma="auto"`` averages over, with prior weights.

    As they are, scores count every column of some relevance. That suits tables whose scale is
    known: with two rows, or more columns than rows, it would add up what is noise.
    """
    share = max(n_rows - 2, 0.0)
    flat = FLAT_WEIGHT * share / (share + n_features)
    steep = {name: (f, (1 - flat) * weight) for name, (f, weight) in AVERAGED_TRANSFORMS.items()}
    return steep | ({"identity": (SCORE_TRANSFORMS["identity"], flat)} if flat else {})


def target_direction(scores, transform):
    """Turn scores (n_outputs, n_features) into a direction of length 1, or 0 if all are zero.

    Several outputs are centered first: softmax does not change when the same vector is added to
    the coefficients of every class.
    """
    direction = np.asarray(transform(scores.copy()), dtype=float)
    if direction.shape != scores.shape or not np.isfinite(direction).all():
        raise ValueError(
            f"score_transform must turn finite scores into as many finite numbers; it turned shape "
            f"{scores.shape} into {direction.shape}, with values such as {direction.ravel()[:3]}."
        )
    if len(direction) > 1:
        direction = direction - direction.mean(axis=0)
    length = np.linalg.norm(direction)
    return direction / length if length > 0 else direction
