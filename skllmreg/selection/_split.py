"""Cross-validation where most rows have no label."""

from numbers import Integral

import numpy as np
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, check_consistent_length, column_or_1d

from skllmreg.selection._unlabeled import is_unlabeled, known_labels
from skllmreg.utils._labels import label_array


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
