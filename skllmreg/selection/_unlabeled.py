"""Find rows without a label, and split the others for cross-validation."""

from numbers import Integral, Real

import numpy as np
from sklearn.model_selection import check_cv
from sklearn.utils import (
    _safe_indexing,
    assert_all_finite,
    check_consistent_length,
    column_or_1d,
)
from sklearn.utils.multiclass import check_classification_targets

from skllmreg.utils._labels import is_missing, is_string, known_target, label_array


def is_unlabeled(y):
    """Find the rows without a label: -1, None, NaN or ``pd.NA``.

    Parameters
    ----------
    y : array-like of shape (n_samples,)

    Returns
    -------
    ndarray of bool of shape (n_samples,)

    Raises
    ------
    ValueError
        If y holds blank strings, or the string "-1" or "nan", which numpy makes of -1 and NaN
        beside strings.
    """
    y = label_array(y)
    if y.dtype.kind in "iu":
        return y == -1
    if y.dtype.kind == "f":
        return (y == -1) | np.isnan(y)
    if y.dtype.kind == "O":
        found = np.fromiter(map(_has_no_label, y.ravel()), bool, y.size)
        found = found.reshape(y.shape)
        mistakes = {"-1"}
    else:
        found = np.zeros(y.shape, bool)
        mistakes = {"-1", "nan"}
    if y.dtype.kind in "OU":
        for label in mistakes.intersection(filter(is_string, y.ravel())):
            raise ValueError(
                f"y holds the string {str(label)!r}: with string labels, mark unlabeled rows by "
                "None or -1 in an array of dtype=object."
            )
        if any(is_string(label) and not label.strip() for label in y.ravel()):
            raise ValueError(
                "y holds blank strings. Rows without a label are marked by None, as by "
                "[label or None for label in y]; a class needs a name."
            )
    return found


def _has_no_label(label):
    if isinstance(label, Real) and not isinstance(label, bool) and label == -1:
        return True
    return is_missing(label)


def known_labels(y, unlabeled):
    """Labels of the labeled rows, in a dtype of their own.

    Integers beside None or ``pd.NA`` come as objects; without these they are integers again.
    """
    labels = label_array(y)[~unlabeled]
    if labels.dtype.kind == "O" and not any(map(is_string, labels)):
        labels = np.array(labels.tolist())
    return labels


def labels_to_score(y, classes):
    """Labels to compare predictions with; rows without one are an error.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
    classes : ndarray of shape (n_classes,)
        Of the fitted estimator; -1 may be one of them.
    """
    y = label_array(y)
    without = is_unlabeled(y)
    if -1 in classes.tolist():
        without = np.array([is_missing(label) for label in y.tolist()], dtype=bool)
    if without.any():
        raise ValueError(
            f"{without.sum()} of {len(y)} rows to score have no label; the first is row "
            f"{int(without.argmax())}. In cross-validation, cv=UnlabeledSplit(5) trains on these "
            "rows and scores the labeled ones."
        )
    return known_labels(y, np.zeros(len(y), bool))


def with_unlabeled(labels, rows, n_samples):
    """Put labels at `rows`; the other rows get -1, or None where labels are not numbers."""
    number = np.asarray(labels).dtype.kind in "if"
    y = np.full(n_samples, -1, labels.dtype) if number else np.full(n_samples, None, object)
    y[rows] = labels
    return y


def turns(groups):
    """Count, for each entry, the earlier entries of its group.

    Parameters
    ----------
    groups : ndarray of int of shape (n_samples,)

    Returns
    -------
    ndarray of int of shape (n_samples,)
    """
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    count = np.empty(len(groups), dtype=int)
    count[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return count


def check_labels(y, n_samples, has_teacher):
    """Tell the unlabeled rows, and check the labels of the others.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or None
    n_samples : int
    has_teacher : bool
        Without a teacher, -1 beside one other label is the ordinary coding of two classes.

    Returns
    -------
    unlabeled : ndarray of bool of shape (n_samples,)
    labels : ndarray of shape (n_labeled,)
    """
    if y is None:
        if not has_teacher:
            raise ValueError(
                "This estimator requires y to be passed, but the target y is None; only with a "
                "teacher may all rows be without a label."
            )
        return np.ones(n_samples, bool), np.empty(0, object)
    y = column_or_1d(label_array(y), warn=True)
    if len(y) != n_samples:
        raise ValueError(f"Found {n_samples} rows in X and {len(y)} in y: inconsistent numbers.")
    unlabeled = is_unlabeled(y)
    if not has_teacher and y.dtype.kind in "iuf" and len(set(y.tolist())) == 2:
        unlabeled = np.isnan(y) if y.dtype.kind == "f" else np.zeros(len(y), bool)
    labels = known_labels(y, unlabeled)
    if len(labels):
        known_target(labels)
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
    if unlabeled.any() and not has_teacher:
        n = unlabeled.sum()
        others = f", the first of {n} rows without one" if n > 1 else ""
        raise ValueError(
            f"Row {unlabeled.argmax()} of y has no label{others}, and there is no one to ask: pass "
            "teacher= or fit(..., teacher_proba=)."
        )
    return unlabeled, labels


class UnlabeledSplit:
    """Split the labeled rows; the unlabeled ones join every training fold.

    ``cv=5`` cannot score rows without a label: it would compare predictions with -1. Labels that
    are numbers need a dtype of numbers (-1, NaN or ``Int64`` where there is none): scikit-learn's
    metrics refuse numbers that are held as objects, as they are beside None.

    Parameters
    ----------
    cv : int or splitter, default=5
        How the labeled rows are split. An int is the number of stratified folds.

    Examples
    --------
    >>> import numpy as np
    >>> from skllmreg import UnlabeledSplit
    >>> y = np.array([0, 1, -1, 0, 1, -1])
    >>> for train, test in UnlabeledSplit(2).split(np.zeros((6, 1)), y):
    ...     print(train, test)
    [2 3 4 5] [0 1]
    [0 1 2 5] [3 4]
    """

    def __init__(self, cv=5):
        self.cv = cv

    def __repr__(self):
        return f"UnlabeledSplit(cv={self.cv!r})"

    def split(self, X, y, groups=None, **params):
        """Generate indices of training and test rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,)
            -1, None, NaN or ``pd.NA`` where there is no label.
        groups : array-like of shape (n_samples,), default=None
            Passed to the inner splitter.
        **params
            Passed to the inner splitter.

        Yields
        ------
        train, test : ndarray of int
        """
        check_consistent_length(X, y, groups)
        unlabeled = is_unlabeled(column_or_1d(label_array(y)))
        labeled, rest = np.flatnonzero(~unlabeled), np.flatnonzero(unlabeled)
        if not len(labeled):
            raise ValueError("No row of y has a label: there is nothing to test on.")
        labels = known_labels(y, unlabeled)
        if groups is not None:
            params["groups"] = _safe_indexing(groups, labeled)
        inner = self._inner(labels)
        for train, test in inner.split(_safe_indexing(X, labeled), labels, **params):
            yield np.sort(np.concatenate([labeled[train], rest])), labeled[test]

    def get_n_splits(self, X=None, y=None, groups=None):
        """Count the splits.

        Parameters
        ----------
        X, y, groups : array-like, default=None
            As for `split`; only some inner splitters need them.

        Returns
        -------
        int
        """
        labels = None
        if y is not None:
            unlabeled = is_unlabeled(y)
            labeled = np.flatnonzero(~unlabeled)
            labels = known_labels(y, unlabeled)
            X, groups = (a if a is None else _safe_indexing(a, labeled) for a in (X, groups))
        return self._inner(labels).get_n_splits(X, labels, groups)

    def get_metadata_routing(self):
        """Request what the inner splitter requests.

        Returns
        -------
        MetadataRequest
        """
        return self._inner(None).get_metadata_routing()

    def _inner(self, labels):
        if not isinstance(self.cv, Integral) and not hasattr(self.cv, "get_n_splits"):
            raise ValueError(f"cv is a number of folds or a splitter, got {self.cv!r}.")
        return check_cv(self.cv, labels, classifier=True)
