"""Whether a row is of the class that it was written for."""


def doubt_labels(method, X, y, *, X_labeled, y_labeled, classes, student, teacher, random_state):
    """Say which rows are hardly of their class.

    Parameters
    ----------
    method : {"auto", "teacher", "student", "dynamics"}
    X : texts or table of shape (n_samples, n_features)
        Generated rows.
    y : ndarray of shape (n_samples,)
        The classes that they were written for.
    X_labeled, y_labeled : like X and y
        The labelled rows.
    classes : ndarray of shape (n_classes,)
    student : estimator
        Unfitted; cloned.
    teacher : estimator or None
        Has `predict_proba` and `classes_`; fitted.
    random_state : RandomState

    Returns
    -------
    list of str
        "" where the label is believed, else the reason, as in "label: teacher says 'x' (0.97)".
    """
    raise NotImplementedError
