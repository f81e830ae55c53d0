"""Predict by the student that a meta-estimator has trained."""

from typing import Any

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skllmreg.students._fitting import (
    is_net,
    student_decision,
    student_has,
    student_predict,
    student_proba,
)
from skllmreg.utils._validation import check_rows


class StudentPredictions:
    """Predictions of `estimator_`, over all `classes_`."""

    estimator: Any
    estimator_: Any
    classes_: np.ndarray

    @available_if(student_has("predict"))
    def predict(self, X):
        """Predict the classes by the student.

        Parameters
        ----------
        X : like in `fit`

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return student_predict(self.estimator_, self._check_rows(X, reset=False), self.classes_)

    @available_if(student_has("predict_proba"))
    def predict_proba(self, X):
        """Compute the classes' probabilities by the student.

        Parameters
        ----------
        X : like in `fit`

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        check_is_fitted(self)
        return student_proba(self.estimator_, self._check_rows(X, reset=False), self.classes_)

    @available_if(student_has("decision_function"))
    def decision_function(self, X):
        """Call the student's decision function.

        Parameters
        ----------
        X : like in `fit`

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        return student_decision(self.estimator_, X, self.classes_)

    def _check_rows(self, X, *, reset):
        return check_rows(self, X, reset=reset, allow_nd=is_net(self.estimator))
