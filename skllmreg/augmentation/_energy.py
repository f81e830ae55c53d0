r"""How far rows are from what a student knows: energy, or any outlier detector.

.. math:: E(x) = -T \log \sum_k \exp(f_k(x) / T)

with the logits f; higher is more out of distribution (Liu et al. 2020, equation 4). Of two classes
with the one decision value f the logits are (-f/2, f/2), so that E falls with the margin \|f\| and
says nothing else.
"""

import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing, gen_batches
from sklearn.utils.validation import _num_samples

from skllmreg.students._fitting import is_net, last_step

CHUNK_ROWS = 8192  # scored at a time: memory grows by one number a row
CHUNK_VALUES = 2**22


def energy_score(logits, *, temperature=1.0, mask=None):
    r"""Energy of rows under a classifier; higher is more out of distribution.

    .. math:: E = -T \log \sum_k \exp(f_k / T)

    Parameters
    ----------
    logits : array-like of shape (n_samples, [n_tokens, ]n_classes) or (n_samples,)
        What comes before the softmax: of probabilities the energy tells nothing. One number a row
        is the decision value f of two classes, and stands for the logits (-f/2, f/2).
    temperature : float, default=1.0
        T: the larger, the more of the classes count.
    mask : array-like of bool of shape (n_samples, n_tokens), default=None
        Of sequences, the tokens that count (the target's, no padding); the energy is their mean.

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If the mask leaves a row no token, or is for other data.

    References
    ----------
    Liu et al. (2020), "Energy-based out-of-distribution detection", NeurIPS, equation 4.
    Gholami et al. (2024), GOLD, arXiv:2403.19754.

    Examples
    --------
    >>> from skllmreg.augmentation import energy_score
    >>> energy_score([[9.0, 0.0], [0.1, 0.0]]).round(2)
    array([-9.  , -0.74])
    """
    logits = np.asarray(logits)
    if logits.ndim not in (1, 2, 3):
        raise ValueError(f"Logits have 1, 2 or 3 dimensions; got the shape {logits.shape}.")
    if not temperature > 0:
        raise ValueError(f"The temperature must be positive, got {temperature}.")
    if mask is not None:
        mask = np.asarray(mask)
        if not np.isin(mask, (0, 1)).all():
            raise ValueError("A mask holds True (or 1) for the tokens that count, and else False.")
        mask = mask.astype(bool)
        if logits.ndim != 3 or mask.shape != logits.shape[:2]:
            raise ValueError(
                f"A mask is for logits of shape (n_samples, n_tokens, n_classes) and has their "
                f"first two dimensions; got {mask.shape} for {logits.shape}."
            )
        if not (counts := mask.any(axis=1)).all():
            raise ValueError(f"The mask leaves row {np.argmin(counts)} no token.")
    energy = np.empty(len(logits))
    if not len(logits):
        return energy
    n_values = max(1, int(np.prod(logits.shape[1:])))
    for rows in gen_batches(len(logits), max(1, CHUNK_VALUES // n_values)):
        chunk = logits[rows].astype(np.float64, copy=False)
        if chunk.ndim == 1:
            chunk = np.column_stack([-chunk / 2, chunk / 2])
        value = -temperature * _log_sum_exp(chunk / temperature)
        if value.ndim == 2:
            counted = np.ones(value.shape, bool) if mask is None else mask[rows]
            value = np.mean(value, axis=1, where=counted)
        energy[rows] = value
    return energy


def _log_sum_exp(x):
    """The function of scipy.special along the last axis, in a sixth of its time; x is lost."""
    largest = x.max(axis=-1, keepdims=True)
    largest[~np.isfinite(largest)] = 0
    x -= largest
    with np.errstate(divide="ignore", over="ignore"):
        return np.log(np.exp(x, out=x).sum(axis=-1)) + largest[..., 0]


def check_ood_score(ood_score, student):
    """Raise before anything is paid for if rows could not be scored.

    Parameters
    ----------
    ood_score : "energy" or outlier detector
    student : classifier
        Not fitted.
    """
    if not isinstance(ood_score, str):
        if not hasattr(ood_score, "score_samples"):
            raise ValueError(
                f"ood_score={ood_score} has no score_samples. Outlier detectors such as "
                "IsolationForest or LocalOutlierFactor(novelty=True) have it."
            )
        return
    last = last_step(student)
    if is_net(last):
        from skllmreg.nn._logits import check_logits

        check_logits(last)
    elif not hasattr(student, "decision_function"):
        raise ValueError(
            f"{type(last).__name__} has no decision_function, and energy needs logits: of "
            "probabilities it is the same everywhere. Choose another estimator, or give an outlier "
            "detector with score_samples as ood_score, such as IsolationForest()."
        )


def ood_scores(ood_score, student, X, known, *, temperature=1.0):
    """Score rows; higher is more out of distribution.

    Parameters
    ----------
    ood_score : "energy" or outlier detector
        A detector is fitted, as a clone, to the rows that the student knows.
    student : fitted classifier
    X, known : rows as the student takes them
        To be scored, and what the student was fitted to.
    temperature : float

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    if not isinstance(ood_score, str):
        return -clone(ood_score).fit(known).score_samples(X)
    return student_energy(student, X, temperature=temperature)


def student_energy(student, X, *, temperature=1.0):
    """Energy of rows under a fitted classifier, chunk by chunk."""
    n_samples = _num_samples(X)
    energy = np.empty(n_samples)
    for rows in gen_batches(n_samples, CHUNK_ROWS):
        logits = logits_of(student, _safe_indexing(X, rows))
        if rows.start == 0 and n_samples > 1 and (what := _normalized(logits)):
            raise ValueError(
                f"What {type(last_step(student)).__name__} puts out are {what}. Energy needs the "
                "logits before they are normalized; or give an outlier detector as ood_score."
            )
        energy[rows] = energy_score(logits, temperature=temperature)
    return energy


def _normalized(logits):
    """Name what outputs are that sum to 1, or their logarithms; "" for logits."""
    if logits.ndim != 2:
        return ""
    if (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1, atol=1e-5):
        return "probabilities"
    return "log-probabilities" if np.abs(energy_score(logits)).max() < 1e-6 else ""


def logits_of(student, X):
    """Logits of a fitted classifier: of the raw outputs of a net, else its decision function.

    Returns
    -------
    ndarray of shape (n_samples,) for two classes, or (n_samples, n_classes)
    """
    last = last_step(student)
    if is_net(last):
        from skllmreg.nn._logits import net_logits

        while student is not last:
            X, student = student[:-1].transform(X), student[-1]
        return net_logits(last, X)
    logits = student.decision_function(X)
    pairs = getattr(last, "decision_function_shape", "") == "ovo" and len(student.classes_) > 2
    if pairs or (logits.ndim == 2 and logits.shape[1] != len(student.classes_)):
        raise ValueError(
            f"decision_function of {type(last).__name__} has {logits.shape[1]} columns for "
            f"{len(student.classes_)} classes: energy needs one for each class (of an SVC, "
            'decision_function_shape="ovr").'
        )
    return logits
