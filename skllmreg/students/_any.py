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
