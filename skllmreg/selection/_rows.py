"""Labels as users pass them, some of them missing, and rows that get no answer."""

import numpy as np
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from skllmreg.llm._call import unusable_replies
from skllmreg.selection._unlabeled import is_unlabeled, known_labels
from skllmreg.utils._labels import label_array


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
                "LLKDSelector requires y to be passed, but the target y is None; only with a "
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


def unanswered(failures, replies):
    """Error for rows that get no answer, by their number in X.

    Parameters
    ----------
    failures : dict of int to InvalidReplyError
        By row.
    replies : list
        What the others got.

    Returns
    -------
    InvalidReplyError
    """
    error = unusable_replies("Row", dict(sorted(failures.items())), replies)
    hint = 'LLMTeacherClassifier(on_refusal="abstain") leaves such rows without an answer.'
    error.args = (f"{error} {hint}",)
    return error
