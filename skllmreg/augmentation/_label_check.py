"""Check whether rows are of the class that they were written for.

Rows are written because the student knows little of their kind, so that a student's doubt alone is
no reason against one: a label is believed unless another one is several times likelier.
"""

import numpy as np
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import SGDClassifier

from skllmreg.augmentation._student import table_features
from skllmreg.students._calibration import fit_calibration
from skllmreg.students._fitting import is_net, last_step, out_of_fold_proba, seeded, student_proba
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


class LabelCheck:
    """Say which written rows are hardly of their class.

    Parameters
    ----------
    method : {"teacher", "student", "dynamics"}
        "teacher": its best class is another one, and it is sure. "student": out of fold, it finds
        another class many times likelier; its probabilities are calibrated first. "dynamics":
        while a linear model learns the other folds, the row's label is never likely and hardly
        varies [1]_; the bound on the probability is for any number of classes here, where the paper
        has 0.2.
    data : TrainingRows
        The labeled rows are believed; they train the student, too.
    student : estimator
        Unfitted; cloned.
    teacher : estimator or None
        Has `predict_proba` and `classes_`; fitted.
    random_state : int

    References
    ----------
    .. [1] N. Seedat, N. Huynh, B. van Breugel, M. van der Schaar (2024), "Curated LLM: Synergy of
       LLMs and data curation for tabular augmentation in low-data regimes", ICML,
       arXiv:2312.12112, section 3.2.
    """

    def __init__(self, method, data, student, teacher, random_state):
        self.method, self.data = method, data
        self.student, self.teacher = student, teacher
        self.random_state = random_state
        self._rows: list = []
        self._codes: list[int] = []

    def __call__(self, rows, codes):
        """Check rows.

        Parameters
        ----------
        rows : list
            Valid rows, as generators give them.
        codes : list of int
            Positions of the classes that they were written for.

        Returns
        -------
        list of str
            "" where the label is believed, else why not, as in "the teacher says 'x' (0.97)".
        """
        data = self.data
        doubts = doubt_labels(
            self.method,
            data.kind.to_X(rows),
            np.asarray(codes, dtype=int),
            X_labeled=joined(data.X, data.kind.to_X(self._rows)),
            labeled_codes=np.append(data.codes, self._codes).astype(int),
            classes=data.classes,
            student=seeded(self.student, self.random_state),
            teacher=self.teacher,
            random_state=np.random.RandomState(self.random_state),
        )
        # What is believed now helps to judge what comes later.
        self._rows += [row for row, doubt in zip(rows, doubts, strict=True) if not doubt]
        self._codes += [code for code, doubt in zip(codes, doubts, strict=True) if not doubt]
        return doubts


def make_label_check(method, data, student, teacher, random_state):
    """Resolve `label_check` of `GOLDAugmenter`, and fit the teacher.

    Returns
    -------
    LabelCheck or None
    """
    if method == "auto":
        method = None if teacher is None else "teacher"
    if method is None:
        return None
    if method == "student" and not hasattr(student, "predict_proba"):
        raise ValueError(
            f'label_check="student" needs predict_proba, which {type(last_step(student)).__name__} '
            "does not have."
        )
    if teacher is not None:
        teacher = clone(teacher)
        if "on_refusal" in teacher.get_params(deep=False):
            # Of an `LLMTeacherClassifier`: a row without an answer is not doubted.
            teacher.set_params(on_refusal="abstain")
        teacher.fit(data.X, data.classes[data.codes])
        teacher_classes(teacher, data.classes)
    return LabelCheck(method, data, student, teacher, random_state)


def doubt_labels(
    method, X, codes, *, X_labeled, labeled_codes, classes, student, teacher, random_state
):
    """Say which rows are hardly of their class; see `LabelCheck`.

    Returns
    -------
    list of str
    """
    seed = random_state.randint(2**31 - 1)
    if method == "teacher":
        known, proba, doubted = _by_teacher(teacher, X, classes[codes], classes)
    else:
        known = classes
        data = joined(X_labeled, X), np.append(labeled_codes, codes)
        folds = _folds(codes, np.random.RandomState(seed))
        if method == "student":
            proba, doubted = _by_student(*data, folds, classes, student, seed)
        else:
            proba, doubted = _by_dynamics(*data, folds, len(classes), seed)
    best = proba.argmax(axis=1)
    names = {"teacher": "the teacher says", "student": "the student, not having seen it, says"}
    said = names.get(method, "learning dynamics say")
    return [
        f"{said} {str(known[best[i]])!r} ({proba[i, best[i]]:.2f})" if doubted[i] else ""
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
