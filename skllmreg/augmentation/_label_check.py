"""Whether a row is of the class that it was written for.

Rows are written because the student knows little of their kind, so that a student's doubt alone is
no reason against one: a label is believed unless another one is several times likelier.
"""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import SGDClassifier

from skllmreg.augmentation._student import table_features
from skllmreg.students._calibration import fit_calibration
from skllmreg.students._fitting import is_net, last_step, out_of_fold_proba, student_proba
from skllmreg.utils._frames import joined
from skllmreg.utils._validation import is_text

# A teacher abstains below this probability.
SURE = 0.7
# A student contradicts where another class is so many times likelier than the label: at 4 times it
# threw out a tenth of the clean rows of a real model, and accuracy fell by .03.
TIMES = 8.0
# The learning dynamics contradict where the mean probability of the label is at most this share of
# 1 / n_classes, and its mean variance at most this share of the range.
MOST_CONFIDENCE, MOST_VARIANCE = 0.6, 0.75
N_FOLDS, N_CHECKPOINTS = 5, 10


def doubt_labels(method, X, y, *, X_labeled, y_labeled, classes, student, teacher, random_state):
    """Say which rows are hardly of their class.

    Parameters
    ----------
    method : {"teacher", "student", "dynamics"}
        "teacher": its best class is another one, and it is sure. "student": out of fold, it finds
        another class many times likelier; its probabilities are calibrated first. "dynamics":
        while a linear model learns the other folds, the row's label is never likely and hardly
        varies [1]_; the bound on the probability is for any number of classes here, where the paper
        has 0.2.
    X : texts or table of shape (n_samples, n_features)
        Generated rows.
    y : ndarray of shape (n_samples,)
        The classes that they were written for.
    X_labeled, y_labeled : like X and y
        Rows that are believed; they train the student, too.
    classes : ndarray of shape (n_classes,)
    student : estimator
        Unfitted; cloned.
    teacher : estimator or None
        Has `predict_proba` and `classes_`; fitted.
    random_state : RandomState

    Returns
    -------
    list of str
        "" where the label is believed, else the reason, as in "label: the teacher says 'x' (0.97)".

    References
    ----------
    .. [1] N. Seedat, N. Huynh, B. van Breugel, M. van der Schaar (2024), "Curated LLM: Synergy of
       LLMs and data curation for tabular augmentation in low-data regimes", ICML,
       arXiv:2312.12112, section 3.2.
    """
    codes = np.searchsorted(classes, y)
    seed = random_state.randint(2**31 - 1)
    if method == "teacher":
        known, proba, doubted = _by_teacher(teacher, X, y, classes)
    else:
        known = classes
        data = joined(X_labeled, X), np.append(np.searchsorted(classes, y_labeled), codes)
        folds = _folds(codes, np.random.RandomState(seed))
        if method == "student":
            proba, doubted = _by_student(*data, folds, classes, student, seed)
        else:
            proba, doubted = _by_dynamics(*data, folds, len(classes), seed)
    best = proba.argmax(axis=1)
    names = {"teacher": "the teacher says", "student": "the student, not having seen it, says"}
    said = names.get(method, "learning dynamics say")
    return [
        f"label: {said} {str(known[best[i]])!r} ({proba[i, best[i]]:.2f})" if doubted[i] else ""
        for i in range(len(codes))
    ]


def _by_teacher(teacher, X, y, classes):
    known = teacher_classes(teacher, classes)
    proba = student_proba(teacher, X, known)
    # A teacher may give no probabilities where it does not know.
    proba = np.nan_to_num(np.asarray(proba, dtype=float))
    return known, proba, (known[proba.argmax(axis=1)] != y) & (proba.max(axis=1) >= SURE)


def teacher_classes(teacher, classes):
    """Classes that a fitted teacher tells apart: all of the data's, and maybe others.

    Raises
    ------
    ValueError
        If it does not know one of the data's classes.
    """
    if is_net(last_step(teacher)):
        return classes
    known = np.sort(teacher.classes_)
    if unknown := [label for label in classes.tolist() if label not in known.tolist()]:
        raise ValueError(
            f"The teacher does not know the class {unknown[0]!r}; its classes are "
            f"{str(known.tolist()):.300}."
        )
    return known


def _by_student(X, codes, folds, classes, student, seed):
    n_labeled = len(codes) - len(folds)
    # Labeled rows train every student, and are not scored.
    fold = np.append(np.full(n_labeled, -1), folds)
    proba = out_of_fold_proba(student, X, codes, fold, classes, random_state=seed)[n_labeled:]
    own = codes[n_labeled:]
    # A student fitted to few rows is far too sure, or not sure enough, of rows it has not seen.
    proba = fit_calibration(proba, own, slope_sd=np.inf, floor=1e-9)(proba)
    label = proba[np.arange(len(own)), own]
    return proba, proba.max(axis=1) > TIMES * label


def _by_dynamics(X, codes, folds, n_classes, seed):
    n_labeled = len(codes) - len(folds)
    features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    if not is_text(X):
        features = table_features(X)
    features = features.fit_transform(X)
    own = codes[n_labeled:]
    mean = np.zeros((len(own), n_classes))
    variance = np.zeros(len(own))
    for train, test in _splits(folds, n_labeled):
        model = SGDClassifier(loss="log_loss", alpha=1e-4, random_state=seed)
        rows = test - n_labeled
        for _ in range(N_CHECKPOINTS):
            model.partial_fit(features[train], codes[train], classes=np.arange(n_classes))
            proba = model.predict_proba(features[test])
            label = proba[np.arange(len(test)), own[rows]]
            mean[rows] += proba / N_CHECKPOINTS
            variance[rows] += label * (1 - label) / N_CHECKPOINTS
    never_likely = mean[np.arange(len(own)), own] <= MOST_CONFIDENCE / n_classes
    return mean, never_likely & (variance <= MOST_VARIANCE * np.ptp(variance))


def _folds(codes, rng):
    """A fold for each row; every class is spread over all of them."""
    folds = np.empty(len(codes), int)
    for k in np.unique(codes):
        own = rng.permutation(np.flatnonzero(codes == k))
        folds[own] = (np.arange(len(own)) + rng.randint(N_FOLDS)) % N_FOLDS
    return folds


def _splits(folds, n_labeled):
    """Positions to train on, the labeled rows always among them, and to test on."""
    for fold in np.unique(folds):
        outside = n_labeled + np.flatnonzero(folds != fold)
        yield np.append(np.arange(n_labeled), outside), n_labeled + np.flatnonzero(folds == fold)
