"""Hard or wrong: a second opinion on the teacher's labels, from students that did not see them."""

import numpy as np
from scipy.special import softmax

from skllmreg.selection._calibration import fit_calibration, log_proba


def second_opinion(teacher, student):
    r"""Combine the teacher's word on rows with that of students that were not taught them.

    Given the class, teacher and out-of-fold student are taken to err independently. Bayes' rule
    then gives :math:`P(k) \propto t_k s_k^\beta / \pi_k` with the mean of t for the prior
    :math:`\pi`. The student's slope :math:`\beta` is the one at which it predicts the teacher's
    labels best, so a student that knows little says little. A row that is *hard* keeps the
    teacher's label, as the student has no opinion of its own; on a row that is *wrong* a sure
    student outweighs a half-sure teacher.

    Parameters
    ----------
    teacher : ndarray of shape (n_samples, n_classes)
        Calibrated probabilities.
    student : ndarray of shape (n_samples, n_classes)
        Out-of-fold probabilities.

    Returns
    -------
    proba : ndarray of shape (n_samples, n_classes)
    slope : float
        The student's slope.
    """
    calibration = fit_calibration(student, teacher.argmax(axis=1))
    prior = teacher.mean(axis=0)
    combined = log_proba(teacher) + calibration.slope * log_proba(student) - log_proba(prior)
    return softmax(combined, axis=1), calibration.slope


def fold_of_rows(n_samples, n_folds, rng):
    """Assign rows to folds of equal size at random.

    Returns
    -------
    ndarray of int of shape (n_samples,)
    """
    return rng.permutation(np.arange(n_samples) % n_folds)
