"""Fit any classifier, a skorch net too, and ask it for classes and probabilities of all classes."""

import contextlib
from inspect import signature

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.extmath import row_norms
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import has_fit_parameter

# A class with a smaller share of a row's target is left out of it, unless no share is much larger:
# rows are repeated per class, and the tail would only make them many.
SMALLEST_SHARE, OF_THE_LARGEST = 0.05, 0.1


def is_net(estimator):
    """Whether it is a skorch net; without an import of skorch."""
    return any(base.__module__.partition(".")[0] == "skorch" for base in type(estimator).__mro__)


def last_step(estimator):
    """The classifier at the end of a pipeline."""
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def trains_in_batches(estimator):
    """Whether it takes soft targets as they are, and a rule of selection for each batch."""
    return is_net(estimator) or hasattr(estimator, "fit_distributions")


def fit_by_batch(estimator, X, target, weight, rule, codes, classes):
    """Fit a clone of what trains in batches, selecting in each batch.

    Parameters
    ----------
    estimator : skorch net or TransformerClassifier
    X : what it takes, of shape (n_samples, ...)
    target : ndarray of shape (n_samples, n_classes)
    weight : ndarray of shape (n_samples,)
    rule : callable
        Selects among the rows that the teacher has answered.
    codes : ndarray of int of shape (n_samples,)
        The teacher's labels; -1 for labeled rows, which always count.
    classes : ndarray of shape (n_classes,)

    Returns
    -------
    student : fitted classifier
    share : ndarray of shape (n_samples,)
        Share of a row's presentations in which it was learned from; NaN for rows held out.
    """
    if is_net(estimator):
        from skllmreg.students._net import fit_net

        return fit_net(estimator, X, target, weight, rule=rule, codes=codes)
    student = clone(estimator).fit_distributions(
        X, target, classes=classes, sample_weight=weight, rule=rule, codes=codes
    )
    return student, student.learned_share_


def student_predict(student, X, classes):
    """Predicted classes; a net knows their positions only."""
    predicted = student.predict(X)
    return classes[predicted] if is_net(last_step(student)) else predicted


def student_decision(student, X, classes):
    """Decision function over all `classes`; least of all for those that the student has not seen.

    Returns
    -------
    ndarray of shape (n_samples,) for two classes, or (n_samples, n_classes)
    """
    found = student.decision_function(X)
    # Of some, such as SVC(decision_function_shape="ovo"), the columns are not classes.
    if len(student.classes_) == len(classes) or found.shape[1:] not in ((), student.classes_.shape):
        return found
    if found.ndim == 1:
        found = np.column_stack([-found, found])
    decision = np.full((len(found), len(classes)), np.finfo(found.dtype).min)
    decision[:, np.searchsorted(classes, student.classes_)] = found
    return decision


def student_proba(student, X, classes):
    """Probabilities of all `classes`, also of those that the student has not seen.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
    """
    if is_net(last_step(student)):
        proba = student.predict_proba(X)
        if proba.shape[1:] != (len(classes),):
            raise ValueError(
                f"The module has {proba.shape[-1]} outputs; there are {len(classes)} classes."
            )
        return proba
    proba = np.zeros((X.shape[0] if hasattr(X, "shape") else len(X), len(classes)))
    proba[:, np.searchsorted(classes, student.classes_)] = student.predict_proba(X)
    return proba


def student_has(method):
    """Make a condition for `available_if`: whether the student, fitted or not, has a method.

    The students that the estimators make themselves have all methods.
    """

    def check(self):
        names = ("estimator_", "final_estimator", "estimator")
        for student in (getattr(self, name, None) for name in names):
            if student is not None:
                getattr(student, method)
                break
        return True

    return check


def seeded(estimator, random_state):
    """Clone, with a seed wherever a random_state is None.

    So that one random_state makes the whole fit repeatable, as in scikit-learn's ensembles; what
    the user has seeded stays, and so does what is frozen.
    """
    estimator = clone(estimator)
    params = estimator.get_params(deep=True)
    frozen = [f"{name}__" for name, value in params.items() if isinstance(value, FrozenEstimator)]
    rng = check_random_state(random_state)
    unset = {
        name: rng.randint(2**31 - 1)
        for name in sorted(params)
        if (name == "random_state" or name.endswith("__random_state"))
        and params[name] is None
        and not name.startswith(tuple(frozen))
    }
    return estimator.set_params(**unset)


def torch_seeded(random_state, device):
    """Seed torch for the time of a fit; None for no device leaves it alone."""
    if device is None:
        return contextlib.nullcontext()
    from skllmreg.nn._net import seeded as torch_seed

    return torch_seed(check_random_state(random_state).randint(2**31 - 1), device)


def linear_student(X):
    """Make the default student for a table of numbers.

    Vectors of length 1, as encoders of texts return, have columns far smaller than 1, for which the
    penalty of ``C=1`` is so strong that more labels can make the model worse.
    """
    X = X.to_numpy() if hasattr(X, "to_numpy") else X
    is_table = getattr(X, "ndim", 1) == 2 and X.dtype.kind == "f"
    if is_table and np.allclose(row_norms(X), 1, atol=1e-3):
        return LogisticRegression(C=30, max_iter=1000)
    return LogisticRegression()


def fit_student(estimator, X, target, classes, *, weight=None, random_state=None, start=None):
    """Fit a clone to classes, or to distributions over them.

    A skorch net takes soft targets as they are. For any other classifier a soft target becomes one
    row per class, weighted by the class's share: the weighted log-loss of these is the
    cross-entropy, but for the smallest shares. ``class_weight="balanced"`` balances these weights.
    Targets that are all hard and of equal weight need no `sample_weight`.

    Parameters
    ----------
    estimator : classifier
    X : array-like of shape (n_samples, ...)
    target : ndarray of shape (n_samples,) or (n_samples, n_classes)
        Positions of the classes, or shares of the classes.
    classes : ndarray of shape (n_classes,)
    weight : ndarray of shape (n_samples,), default=None
        None weighs all rows equally.
    random_state : int, RandomState instance or None, default=None
        Seeds whatever has ``random_state=None`` in the student, and torch for a net; None leaves
        the student as it is.
    start : fitted classifier, default=None
        Student of the round before. A transformer goes on from its weights, for one epoch; others
        are fitted anew.

    Returns
    -------
    fitted classifier or None
        None where soft targets are of one class among several: few classifiers can learn that.
    """
    student = clone(estimator) if random_state is None else seeded(estimator, random_state)
    last = last_step(student)
    device = last.device if is_net(last) and random_state is not None else None
    with torch_seeded(random_state, device):
        if target.ndim == 1:
            # Nets know classes by their positions.
            y = np.asarray(target, dtype=np.int64) if is_net(last) else classes[target]
            return student.fit(X, y)
        weight = np.ones(len(target)) if weight is None else weight
        if is_net(student):
            from skllmreg.students._net import fit_net

            return fit_net(student, X, target, weight)[0]
        if hasattr(student, "fit_distributions"):
            return student.fit_distributions(
                X, target, classes=classes, sample_weight=weight, start=start
            )
        return _fit_soft(student, X, target, weight, classes)


def _fit_soft(student, X, target, weight, classes):
    """Fit a classifier in place to rows that are repeated per class."""
    smallest = np.minimum(SMALLEST_SHARE, OF_THE_LARGEST * target.max(axis=1, keepdims=True))
    share = np.where(target >= smallest, target, 0)
    rows, codes = np.nonzero(share)
    if len(set(codes)) < 2 <= len(classes):
        return None
    share = share[rows, codes] / share.sum(axis=1)[rows] * weight[rows]
    if len(rows) == len(target) and np.ptp(share) == 0 and np.isclose(share[0], 1):
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
        from skllmreg.students._net import check_net

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


def out_of_fold_proba(
    estimator, X, target, fold, classes, *, weight=None, tick=None, random_state=None
):
    """Probabilities of rows by students that were fitted without them.

    Parameters
    ----------
    estimator : classifier
    X : array-like of shape (n_samples, ...)
    target : ndarray of shape (n_samples,) or (n_samples, n_classes)
        As in `fit_student`.
    fold : ndarray of int of shape (n_samples,)
        The fold of each row; rows of fold -1 are in every training part.
    classes : ndarray of shape (n_classes,)
    weight : ndarray of shape (n_samples,), default=None
        None weighs all rows equally.
    tick : callable, default=None
        Takes 1 when a student has been fitted.
    random_state : int, RandomState instance or None, default=None
        As in `fit_student`.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        NaN in the rows of fold -1.
    """
    proba = np.full((len(target), len(classes)), np.nan)
    for k in np.unique(fold[fold >= 0]):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        student = fit_student(
            estimator,
            _safe_indexing(X, train),
            target[train],
            classes,
            weight=None if weight is None else weight[train],
            random_state=random_state,
        )
        proba[test] = student_proba(student, _safe_indexing(X, test), classes)
        if tick is not None:
            tick(1)
    return proba
