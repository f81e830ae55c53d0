"""Attribution scores as the user gives them: checked, matched by name, turned into targets.

No estimator lives here. Scores become one array ``estimates`` of shape (n_estimates, n_outputs,
n_features): n_outputs is 1 for a regression and for two classes (it speaks for ``classes_[1]``),
the number of classes otherwise.
"""

import difflib
from collections.abc import Mapping
from numbers import Real

import numpy as np

from skllmreg.attribution._features import own_name
from skllmreg.utils._labels import about_numbers

SCALE = 10  # scores go from -10 to 10


def match_names(feature_names, scored_names):
    """Find the scored name of every column.

    A column matches the name it has, else its name without the prefixes that `ColumnTransformer`
    puts in front (``"cat__sex_male"`` matches ``"sex_male"``).

    Parameters
    ----------
    feature_names : sequence of str
        Names of the columns of X.
    scored_names : collection of str
        Names that have a score; there may be more of them than columns.

    Returns
    -------
    list of str
        For each column, the name under which its score is given.

    Raises
    ------
    ValueError
        If a column has no score, if two columns claim the same score, or if a name is doubled.
    """
    scored_names = set(scored_names)
    matched, missing = [], []
    owner: dict[str, str] = {}
    for column in feature_names:
        name = own_name(column, scored_names)
        if name is None:
            missing.append(column)
            continue
        if name in owner:
            what = (
                f"the name {column!r} is doubled in X"
                if owner[name] == column
                else f"the columns {owner[name]!r} and {column!r} both match it; "
                "score them under their full names"
            )
            raise ValueError(f"The score of {name!r} is not unique: {what}.")
        owner[name] = column
        matched.append(name)
    if missing:
        unused = sorted(scored_names - set(matched))
        shown = "; ".join(repr(column) + name_hint(column, unused) for column in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ValueError(
            f"No attribution score for {len(missing)} of {len(feature_names)} features: "
            f"{shown}{more}. Every column of X needs a score under its name."
        )
    return matched


def name_hint(column, unused):
    """Say which of the unused names may be meant by a column, "" if none is near."""
    bare = column.split("__")[-1]
    parents = [name for name in unused if bare.startswith(f"{name}_")]
    if parents:
        return f" (one-hot columns need a score each; there is one for {max(parents, key=len)!r})"
    lowered = {name.lower(): name for name in unused}
    near = [lowered[name] for name in difflib.get_close_matches(bare.lower(), lowered)]
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def parse_attributions(attributions, feature_names, n_features, classes=None):
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

    Returns
    -------
    ndarray of shape (n_estimates, n_outputs, n_features)

    Raises
    ------
    ValueError
        If a score is missing, doubled, not a finite number or outside -10 to 10; if a class has
        no scores; if X has no names but the scores do.
    """
    if hasattr(attributions, "to_estimates"):
        attributions = attributions.to_estimates()

    def one_output(scores, of=""):
        return _parse_output(scores, feature_names, n_features, of)

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
        outputs = [one_output(attributions[k], f" for class {k!r}") for k in keys]
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


def _with_names(scores):
    """Turn a data frame (a row per estimate) or a series with names into dicts."""
    columns, index = getattr(scores, "columns", None), getattr(scores, "index", None)
    names = columns if columns is not None else None if callable(index) else index
    if names is None or not all(isinstance(name, str) for name in names):
        return scores
    rows = [
        dict(zip(names, row, strict=True)) for row in np.atleast_2d(np.asarray(scores)).tolist()
    ]
    doubled = {name for name in names if list(names).count(name) > 1}
    if doubled:
        raise ValueError(f"The scores of {sorted(doubled)} are doubled.")
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


def _parse_output(scores, feature_names, n_features, of):
    """Estimates of one output: (n_estimates, n_features)."""
    scores = [scores] if isinstance(scores, Mapping) else _with_names(scores)
    if isinstance(scores, (list, tuple)) and any(isinstance(s, Mapping) for s in scores):
        for name in (name for estimate in scores for name in estimate):
            if not isinstance(name, str):
                raise ValueError(f"The scores{of} name a feature {name!r}, which is no str.")
        if feature_names is None:
            raise ValueError(
                "The attribution scores have feature names, but X has none. Give X as a data frame "
                "whose column names are all strings (in a pipeline: "
                '`.set_output(transform="pandas")` on the steps before), '
                "or give the scores as an array in the order of the columns."
            )
        where = [of if len(scores) == 1 else f"{of} in estimate {i}" for i in range(len(scores))]
        rows = [
            [check_score(s[name], name, w) for name in match_names(feature_names, s)]
            for s, w in zip(scores, where, strict=True)
        ]
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
# What ``gamma="auto"`` averages over, with prior weights.
AVERAGED_TRANSFORMS = {
    "expm1(|s|/3)": (_expm1(3), 0.2),
    "expm1(|s|/2)": (_expm1(2), 0.5),
    "expm1(|s|)": (_expm1(1), 0.3),
}


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
