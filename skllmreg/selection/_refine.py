"""Hard or wrong: a second opinion on the teacher's labels, from students that did not see them."""

import numpy as np
from scipy.special import softmax

from skllmreg.students._calibration import fit_calibration, log_proba


def second_opinion(teacher, student):
    r"""Combine the teacher's word on rows with that of students that were not taught them.

    Given the class, teacher and out-of-fold student are taken to err independently. Bayes' rule
    then gives :math:`P(k) \propto t_k s_k / \pi_k`, with the student's own mean for the prior
    :math:`\pi`, so that a student that has only learned which class is frequent says nothing. The
    student is calibrated on the teacher's labels before: one that knows little says little. A row
    that is *hard* keeps the teacher's label, as the student has no opinion on it; on a row that is
    *wrong* a sure student outweighs a half-sure teacher.

    Parameters
    ----------
    teacher : ndarray of shape (n_samples, n_classes)
        Calibrated probabilities.
    student : ndarray of shape (n_samples, n_classes)
        Out-of-fold probabilities.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
    """
    student = fit_calibration(student, teacher.argmax(axis=1), bias=True)(student)
    combined = log_proba(teacher) + log_proba(student) - log_proba(student.mean(axis=0))
    return softmax(combined, axis=1)


def fold_of_rows(n_samples, n_folds, rng):
    """Assign rows to folds of equal size at random.

    Returns
    -------
    ndarray of int of shape (n_samples,)
    """
    return rng.permutation(np.arange(n_samples) % n_folds)
