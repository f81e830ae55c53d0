"""Fit any classifier to distributions over the classes."""

from inspect import signature

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import has_fit_parameter

from skllmreg.students._any import is_net, last_step, student_proba

# A class with a smaller share of a row's target is left out of it, unless no share is much larger:
# rows are repeated per class, and the tail would only make them many.
SMALLEST_SHARE, OF_THE_LARGEST = 0.05, 0.1


def fit_student(estimator, X, target, weight, classes):
    """Fit a clone to weighted targets.

    A skorch net takes them as they are. For any other classifier a soft target becomes one row per
    class, weighted by the class's share: the weighted log-loss of these is the cross-entropy, but
    for the smallest shares. ``class_weight="balanced"`` balances these weights. Targets that are
    all hard and of equal weight need no `sample_weight`.

    Parameters
    ----------
    estimator : classifier
    X : array-like of shape (n_samples, ...)
    target : ndarray of shape (n_samples, n_classes)
    weight : ndarray of shape (n_samples,)
    classes : ndarray of shape (n_classes,)

    Returns
    -------
    fitted classifier or None
        None where the targets are of one class among several: few classifiers can learn that.
    """
    if is_net(estimator):
        from skllmreg.selection._net import fit_net

        return fit_net(estimator, X, target, weight)[0]
    smallest = np.minimum(SMALLEST_SHARE, OF_THE_LARGEST * target.max(axis=1, keepdims=True))
    share = np.where(target >= smallest, target, 0)
    rows, codes = np.nonzero(share)
    if len(set(codes)) < 2 <= len(classes):
        return None
    share = share[rows, codes] / share.sum(axis=1)[rows] * weight[rows]
    student = clone(estimator)
    if len(rows) == len(target) and np.ptp(share) == 0:
        return student.fit(X, classes[codes])
    last = last_step(student)
    if str(getattr(last, "class_weight", None)).startswith("balanced"):
        # What most classifiers balance is the number of rows, and each row is here once per class.
        mass = np.bincount(codes, weights=share)
        share = share * share.sum() / (np.count_nonzero(mass) * mass[codes])
        last.set_params(class_weight=None)
    return student.fit(
        _safe_indexing(X, rows), classes[codes], **{weight_parameter(student): share}
    )


def check_student(estimator, *, weighted):
    """Raise where a student is bound to fail, which it should before a teacher is paid.

    Parameters
    ----------
    estimator : classifier
    weighted : bool
        Whether it will be fitted to weighted rows.
    """
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"{type(estimator).__name__} has no predict_proba, which tells how uncertain it is."
        )
    last = last_step(estimator)
    if weighted and is_net(estimator):
        from skllmreg.selection._net import check_net

        check_net(estimator)
    if weighted and not is_net(last):
        check_weights(last)


def check_weights(estimator):
    """Raise if `fit` has no `sample_weight`, nor any further parameters that might be it."""
    parameters = signature(estimator.fit).parameters
    further = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if not further and "sample_weight" not in parameters:
        raise ValueError(
            f"{type(estimator).__name__}.fit takes no sample_weight, which soft labels and several "
            'rounds need. Choose another estimator, or labels="hard" with the strategy "all" or '
            '"random", or "teacher" with weighting=None.'
        )


def weight_parameter(estimator):
    """Name under which `fit` takes the weights, for a pipeline that of its last step."""
    last = last_step(estimator)
    check_weights(last)
    if get_config()["enable_metadata_routing"]:
        request_weights(estimator, last)
        return "sample_weight"
    names = []
    while isinstance(estimator, Pipeline):
        names.append(estimator.steps[-1][0])
        estimator = estimator.steps[-1][1]
    return "__".join([*names, "sample_weight"])


def request_weights(estimator, last):
    """Route the weights to the last step alone; what the user has requested stays."""
    at_the_end = {id(part) for part in [last, *last.get_params().values()]}
    for part in [estimator, *estimator.get_params().values()]:
        if not isinstance(part, BaseEstimator) or not has_fit_parameter(part, "sample_weight"):
            continue
        request = part.get_metadata_routing()
        # A meta-estimator routes what the estimators in it have requested.
        if not isinstance(request, MetadataRequest):
            continue
        if request.fit.requests.get("sample_weight") is None:
            part.set_fit_request(sample_weight=id(part) in at_the_end)


def out_of_fold_proba(estimator, X, target, fold, classes, tick):
    """Probabilities by students that were not taught the row.

    Parameters
    ----------
    estimator : classifier
    X : array-like of shape (n_samples, ...)
    target : ndarray of shape (n_samples, n_classes)
    fold : ndarray of int of shape (n_samples,)
        The fold of each row; rows of fold -1 are in every training part.
    classes : ndarray of shape (n_classes,)
    tick : callable
        Takes 1 when a student has been fitted.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        NaN in the rows of fold -1.
    """
    proba = np.full(target.shape, np.nan)
    for k in range(fold.max() + 1):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        student = fit_student(
            estimator, _safe_indexing(X, train), target[train], np.ones(len(train)), classes
        )
        proba[test] = student_proba(student, _safe_indexing(X, test), classes)
        tick(1)
    return proba
