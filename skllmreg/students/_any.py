"""Ask any classifier, a skorch net too, for classes and probabilities."""

import numpy as np
from sklearn.pipeline import Pipeline


def is_net(estimator):
    """Whether it is a skorch net; without an import of skorch."""
    return any(base.__module__.partition(".")[0] == "skorch" for base in type(estimator).__mro__)


def last_step(estimator):
    """The classifier at the end of a pipeline."""
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


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
    # Of some, such as SVC(decision_function_shape="ovo"), the columns are no classes.
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
