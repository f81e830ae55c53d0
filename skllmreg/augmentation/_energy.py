r"""Score how unfamiliar rows are to a student, and choose those that the LLM is shown again.

.. math:: E(x) = -T \log \sum_k \exp(f_k(x) / T)

with the logits f; higher is more out of distribution (Liu et al. 2020, equation 4). Of two classes
with the one decision value f the logits are (-f/2, f/2), so that E falls with the margin \|f\| and
says nothing else.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing, gen_batches
from sklearn.utils.validation import _num_samples

from skllmreg.students._fitting import is_net, last_step, seeded

CHUNK_ROWS = 8192  # scored at a time: memory grows by one number a row
CHUNK_VALUES = 2**22

# A class with fewer rows than this is judged by the limits of all: the default band of a quarter
# would hold none of three or two.
FEWEST_ROWS = 4


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


@dataclass(frozen=True)
class Strategy:
    """Which rows are shown again.

    Parameters
    ----------
    source : {"written", "labeled", None}
        "written": rows of the round before, which the student has not seen. "labeled": the user's
        rows. None: nothing is shown.
    pick : {"band", "any", "lost", "uncovered"}
        "band": those whose score lies in a band of how unfamiliar they are. "any": as many, from
        anywhere. "lost": those that a student of the written rows alone gets wrong. "uncovered":
        those that are farthest from the written rows.
    """

    source: str | None = None
    pick: str = ""


STRATEGIES = {
    "gold": Strategy("written", "band"),
    "random-feedback": Strategy("written", "any"),
    "errors": Strategy("labeled", "lost"),
    "coverage": Strategy("labeled", "uncovered"),
    "no-feedback": Strategy(),
}


def band_limits(scores, codes, n_classes, quantiles):
    """Compute the limits of the band, for each class by its own rows where these are enough.

    Parameters
    ----------
    scores : ndarray of shape (n_rows,)
        Higher is more out of distribution. What is above the band is treated as noise.
    codes : ndarray of int of shape (n_rows,)
        Positions of the rows' classes.
    n_classes : int
    quantiles : tuple of float
        Quantiles of the scores at which the band begins and ends.

    Returns
    -------
    ndarray of shape (n_classes, 2)
    """
    limits = np.tile(np.quantile(scores, quantiles), (n_classes, 1))
    for k in range(n_classes):
        own = scores[codes == k]
        if len(own) >= FEWEST_ROWS:
            limits[k] = np.quantile(own, quantiles)
    return limits


def choose_feedback(scores, codes, n_classes, quantiles):
    """Find the rows of each class inside its band.

    Returns
    -------
    chosen : list of ndarray of int
        For each class; empty where it has no row in the band. Of so few rows that none is in one,
        it is the one that is nearest to its band.
    limits : ndarray of shape (n_classes, 2)
    """
    limits = band_limits(scores, codes, n_classes, quantiles)
    low, high = limits[codes].T
    inside = (scores >= low) & (scores <= high)
    if not inside.any():
        inside[np.argmin(np.maximum(low - scores, scores - high))] = True
    return [np.flatnonzero(inside & (codes == k)) for k in range(n_classes)], limits


def choose_worst(scores, codes, n_classes):
    """Find the labeled rows of each class that lack most: those above 0, else the upper half.

    Returns
    -------
    list of ndarray of int
    """
    chosen = []
    for k in range(n_classes):
        own = np.flatnonzero(codes == k)
        own = own[np.isfinite(scores[own])]
        worst = own[scores[own] > 0]
        if not len(worst) and len(own):
            worst = own[scores[own] >= np.median(scores[own])]
        chosen.append(worst)
    return chosen


class Study:
    """Have the student of a round say which rows the next one is to be written near.

    Parameters
    ----------
    strategy : Strategy
        With a source.
    data : TrainingRows
    student : estimator
        Not fitted.
    ood_score : "energy" or outlier detector
    temperature : float
    quantiles : tuple of float
    n_feedback : int
        Rows that a request shows.
    keep_student : bool
        Whether one student is trained on from round to round, as the paper's.
    random_state : int
    """

    def __init__(
        self,
        strategy,
        data,
        student,
        *,
        ood_score,
        temperature,
        quantiles,
        n_feedback,
        keep_student,
        random_state,
    ):
        self.strategy, self.data, self.student = strategy, data, student
        self.by_energy = isinstance(ood_score, str)
        self.detector = None if self.by_energy else seeded(ood_score, random_state)
        self.temperature, self.quantiles = temperature, quantiles
        self.n_feedback, self.keep_student = n_feedback, keep_student
        self.random_state = random_state
        self._kept = None
        last = last_step(student)
        if keep_student and not (hasattr(student, "partial_fit") or is_net(last)):
            raise ValueError(
                f"keep_student=True needs a student with partial_fit, which "
                f"{type(student).__name__} does not have."
            )

    def rehearse(self):
        """Put the labeled rows to the test: what cannot be scored fails before anything is paid."""
        kept, self._kept = self._kept, None
        kind = self.data.kind
        if self.strategy.source == "written":
            self.unfamiliar([], [], kind.rows)
        elif self.strategy.pick == "lost":
            self.data.losses(self.student, kind.rows, self.data.codes, self.random_state)
        self._kept = kept

    def unfamiliar(self, rows, codes, new):
        """Score new rows by a student, or a detector, that knows the labeled rows and these."""
        if not self.by_energy:
            return self.data.outlying(clone(self.detector), rows, new)
        fitted = self.data.fit(self.student, rows, codes, self.random_state, kept=self._kept)
        self._kept = fitted if self.keep_student else None
        return self.data.unfamiliar(fitted, new, self.temperature)

    def lacking(self, rows, codes):
        """Score the labeled rows by what the written ones lack."""
        if self.strategy.pick == "lost":
            return self.data.losses(self.student, rows, codes, self.random_state)
        return distances(self.data, rows, np.asarray(codes, dtype=int))

    def choose(self, accepted, fresh):
        """Choose feedback for each class.

        Parameters
        ----------
        accepted : list of Written
            All rows so far.
        fresh : list of Written
            Those of them that are candidates; they get their scores.

        Returns
        -------
        feedback : dict of int to (list of rows, int)
            By class, the rows and how many of them a request shows; a class that is not among them
            keeps what it has.
        band : dict of int to (float, float)
        """
        n_classes = len(self.data.labels)
        if self.strategy.source == "labeled":
            scores = self.lacking([one.row for one in accepted], [one.code for one in accepted])
            worst = choose_worst(scores, self.data.codes, n_classes)
            return {
                k: ([self.data.kind.rows[i] for i in own], min(self.n_feedback, len(own)))
                for k, own in enumerate(worst)
                if len(own)
            }, {}
        ids = set(map(id, fresh))
        known = [one for one in accepted if id(one) not in ids]
        scores = self.unfamiliar(
            [one.row for one in known], [one.code for one in known], [one.row for one in fresh]
        )
        for one, score in zip(fresh, scores, strict=True):
            one.score = float(score)
        codes = np.array([one.code for one in fresh])
        chosen, limits = choose_feedback(scores, codes, n_classes, self.quantiles)
        feedback = {}
        for k, inside in enumerate(chosen):
            own = np.flatnonzero(codes == k)
            if len(own):
                pool = own if self.strategy.pick == "any" else inside
                n_shown = min(self.n_feedback, len(inside))
                feedback[k] = ([fresh[i].row for i in pool], n_shown)
        return feedback, {k: tuple(limits[k].tolist()) for k in feedback}


def distances(data, rows, codes):
    """Return how far each labeled row is from the written row of its class that is nearest.

    Returns
    -------
    ndarray of shape (n_labeled,)
        1 less the largest cosine of TF-IDF vectors, less the median over the class's rows.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    every = [data.kind.show(row) for row in [*data.kind.rows, *rows]]
    vectors = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+").fit_transform(every)
    labeled, written = vectors[: len(data.codes)], vectors[len(data.codes) :]
    far = np.full(len(data.codes), np.nan)
    for k in range(len(data.labels)):
        own = np.flatnonzero(data.codes == k)
        if len(own) and (codes == k).any():
            near = (labeled[own] @ written[codes == k].T).max(axis=1).toarray()[:, 0]
            far[own] = 1 - near - np.median(1 - near)
    return far
