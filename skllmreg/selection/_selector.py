"""`LLKDSelector`: a student learns the right rows from a teacher."""

from numbers import Integral, Real

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _num_samples, check_is_fitted

from skllmreg.llm._quote import Quotes
from skllmreg.selection._answers import Answers, find_source, warn_if_silent
from skllmreg.selection._problem import TrainingProblem, make_student
from skllmreg.selection._report import AnswerReport, Meter, explain, summarize
from skllmreg.selection._rounds import ask_and_train, train_on_labels
from skllmreg.selection._strategies import STRATEGIES
from skllmreg.selection._unlabeled import check_labels, labels_to_score
from skllmreg.students._fitting import is_net, last_step, torch_seeded
from skllmreg.students._predictions import StudentPredictions
from skllmreg.students._stateless import StatelessSteps
from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._frames import labels_like
from skllmreg.utils._progress import verbosity


class LLKDSelector(
    StudentPredictions,
    AnswerReport,
    Quotes,
    DocLinkMixin,
    ClassifierMixin,
    MetaEstimatorMixin,
    BaseEstimator,
):
    """Train a student on the rows that a teacher can teach it, with few calls of the teacher.

    A meta-estimator like :class:`~sklearn.semi_supervised.SelfTrainingClassifier`: rows of y that
    are -1, None, NaN or ``pd.NA`` have no label, and the teacher is asked about (some of) them.

    Parameters
    ----------
    estimator : classifier, default=None
        The student. None is :class:`~sklearn.linear_model.LogisticRegression`, and for texts
        :class:`~skllmreg.students.TextClassifier`. A skorch ``NeuralNetClassifier`` and
        :class:`~skllmreg.students.TransformerClassifier` take soft labels as they are, and the
        paper's rule is applied in every batch; any other student takes them as rows repeated with
        `sample_weight`, and the rule is applied in every round.
    teacher : classifier with `predict_proba`, default=None
        A fitted one goes in :class:`~sklearn.frozen.FrozenEstimator`; any other is fitted on the
        labeled rows, if there are any. `teacher_proba` of `fit` takes its place.
    strategy : {"distill", "llkd", "all", "random", "margin", "teacher", "student"}, \
            default="distill"
        - "distill": spends limited calls in rounds, half of them at random and half where the two
          best classes of the student are closest, and learns from all answers. Whether the teacher
          is corrected, how strongly rows count against the student's own regularization, whether
          rare classes and labeled rows count more, and whether the students get a say in the
          labels: each has to lower a log-loss out of fold, or stays out (`refinement_`).
        - "llkd": our reconstruction of the paper's rule [1]_, which leaves its moving averages, the
          normalization of its thresholds and its weights open. The student learns from rows where
          the teacher is confident and the student is not, by thresholds of each class. Limited
          calls are spent at random.
        - "teacher", "student": one half of that rule. With a budget, "student" spends it on the
          rows it is least sure of and learns from all of them.
        - "margin": asks where the two best classes of the student are closest; all answers count.
        - "all", "random": from all answers, as they are. "random" is "all" within a budget.
    labels : {"soft", "hard"}, default="soft"
        Learn the teacher's probabilities, or its most probable class (as the paper does).
    max_teacher_calls : int, default=None
        Maximum number of rows that the teacher is asked about, labeled ones for its calibration
        included, whether the answers are live, cached or recorded. None sets no limit.
    n_rounds : int or "auto", default="auto"
        Rounds of selection and training. "auto": one where the teacher's LLM answers by batch jobs,
        each of which may take a day; else five.
    calibration : {"auto", "temperature", "bias"} or None, default="auto"
        How the teacher's probabilities are corrected by labeled rows: by a temperature, or also by
        a bias for each class. "auto" is None but for "distill": there, a correction has to pay on
        labeled rows that it was not fitted to, and more of these are asked about (up to a fifth of
        the calls) if the teacher shows a bias. A teacher that is fitted here knows the labeled
        rows and is not corrected.
    confidence_threshold : "auto" or float, default="auto"
        Least probability of the teacher's label. "auto": the paper's.
    uncertainty_threshold : "auto" or float, default="auto"
        Least entropy of the student, as a share of its maximum. "auto": the paper's.
    class_thresholds : bool, default=True
        Scale the two by the class's mean, relative to the largest.
    momentum : float, default=0.9
        Decay of the moving averages behind the student's thresholds, for students that are trained
        in batches; the others see all rows in every round.
    weighting : {"product", "confidence", "uncertainty"} or None, default="product"
        What the paper's rule weighs the selected rows by; their mean is 1.
    n_folds : int, default=3
        Folds of whatever "distill" tries out of fold.
    tol : float, default=0.01
        "distill" and "student" stop asking when a round's students agree on the unlabeled rows
        with the last round's up to ``kappa >= 1 - tol`` [2]_.
    random_state : int, RandomState instance or None, default=None
        Also of a student and a teacher that have none of their own.
    verbose : bool, default=None
        Whether progress is shown. None: a bar where stderr is a terminal or a notebook's and the
        work takes more than two seconds, elsewhere a line every minute.

    Attributes
    ----------
    estimator_ : classifier
        The student of the last round.
    classes_ : ndarray of shape (n_classes,)
    transduction_ : ndarray of shape (n_samples,)
        The (hard) labels it was fitted on; -1, or None among strings, for rows it was not.
    sample_indices_ : ndarray of int of shape (n_selected,)
        Rows it was fitted on, labeled ones included.
    sample_weight_ : ndarray of shape (n_selected,)
        Their weights; under the paper's rule in batches the share of the epochs in which a row was
        selected.
    soft_labels_ : ndarray of shape (n_selected, n_classes)
        Their targets; a student that is no net does without shares below .05.
    labeled_iter_ : ndarray of int of shape (n_samples,)
        Round in which a row was selected first; 0 for labeled rows, -1 for never.
    teacher_proba_ : ndarray of shape (n_samples, n_classes)
        What the teacher said, uncalibrated; NaN for rows not asked about or without an answer.
    student_uncertainty_ : ndarray of shape (n_samples,)
        Entropy of the fitted student as a share of its maximum; NaN for labeled rows.
    teacher_ : fitted classifier or None
        None without one, or where its answers are recorded.
    answer_source_ : ndarray of str of shape (n_samples,)
        Where the teacher's answer comes from: "live", "cached" or "recorded"; empty for rows that
        it was not asked about.
    n_teacher_calls_ : int
        Rows that the teacher was asked about, those without an answer included.
    n_calls_saved_ : int
        Unlabeled rows that it was not asked about.
    calibration_ : Calibration or None
        ``slope`` (inverse temperature) and ``bias``.
    history_ : list of dict
        For each round: "calls" so far, rows "selected" (of a net: on average over its epochs),
        "agreement" (kappa) with the student before (NaN in the first), "thresholds" by class, and
        the classes "predicted" for the unlabeled rows.
    refinement_ : dict
        What earned its place in "distill": "weight_scale" (factor of all weights), "class_balance"
        (exponent of the classes' rarity in them), "labeled_weight" (factor of labeled rows), and
        "opinion" (exponent of the students' say in the labels).
    termination_condition_ : {"all_labeled", "budget", "stable"}
        Why no more rows were asked about.
    n_features_in_ : int
        Not for texts.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Warns
    -----
    NoAnswerWarning
        If the teacher gave no answer (NaN for all classes) for some of the rows it was asked about;
        these are not learned from.
    NoLLMWarning
        If there is no teacher: the student is fitted on the labeled rows.

    References
    ----------
    .. [1] Li et al. (2025), "Learning with Less: Knowledge Distillation from Large Language Models
       via Unlabeled Data", Findings of NAACL, arXiv:2411.08028.
    .. [2] Bloodgood, Vijay-Shanker (2009), "A method for stopping active learning based on
       stabilizing predictions", CoNLL.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skllmreg import LLKDSelector
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> teacher = FrozenEstimator(KNeighborsClassifier().fit(X[1000:], y[1000:]))
    >>> few = np.where(np.arange(1000) < 50, y[:1000], -1)
    >>> student = LLKDSelector(teacher=teacher, max_teacher_calls=300, random_state=0)
    >>> student.fit(X[:1000], few).score(X[1000:], y[1000:]) > 0.9
    True
    >>> student.n_teacher_calls_
    300
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit"]), None],
        "teacher": [HasMethods(["predict_proba"]), None],
        "strategy": [StrOptions(set(STRATEGIES))],
        "labels": [StrOptions({"soft", "hard"})],
        "max_teacher_calls": [Interval(Integral, 1, None, closed="left"), None],
        "n_rounds": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "calibration": [StrOptions({"auto", "temperature", "bias"}), None],
        "confidence_threshold": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")],
        "uncertainty_threshold": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")],
        "class_thresholds": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weighting": [StrOptions({"product", "confidence", "uncertainty"}), None],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["boolean", None],
    }

    def __init__(
        self,
        estimator=None,
        *,
        teacher=None,
        strategy="distill",
        labels="soft",
        max_teacher_calls=None,
        n_rounds="auto",
        calibration="auto",
        confidence_threshold="auto",
        uncertainty_threshold="auto",
        class_thresholds=True,
        momentum=0.9,
        weighting="product",
        n_folds=3,
        tol=0.01,
        random_state=None,
        verbose=None,
    ):
        self.estimator = estimator
        self.teacher = teacher
        self.strategy = strategy
        self.labels = labels
        self.max_teacher_calls = max_teacher_calls
        self.n_rounds = n_rounds
        self.calibration = calibration
        self.confidence_threshold = confidence_threshold
        self.uncertainty_threshold = uncertainty_threshold
        self.class_thresholds = class_thresholds
        self.momentum = momentum
        self.weighting = weighting
        self.n_folds = n_folds
        self.tol = tol
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None, *, teacher_proba=None, classes=None):
        """Fit the student.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features), or texts
            What the student takes; texts are a sequence of str.
        y : array-like of shape (n_samples,), default=None
            -1, None, NaN or ``pd.NA`` for rows without a label. None: no row has one.
        teacher_proba : array-like or data frame of shape (n_samples, n_classes), default=None
            The teacher's probabilities, in place of `teacher`. Of these, too, only
            `max_teacher_calls` rows are used. A data frame's columns are the classes. A row of NaN
            is no answer, and not asked for.
        classes : array-like of shape (n_classes,), default=None
            The class of each column of an array `teacher_proba`; None for the sorted labels of y.

        Returns
        -------
        self
        """
        self._fit(X, y, teacher_proba, classes)
        return self

    def _fit(self, X, y, teacher_proba, classes, reserve=None):
        """Fit, without the rows that `reserve` draws.

        Parameters
        ----------
        X, y, teacher_proba, classes
            As for `fit`.
        reserve : callable, default=None
            Takes the rows that the teacher may be asked about and returns those that have to stay
            unseen.

        Returns
        -------
        Answers or None
            Asks the teacher about further rows; None without one.
        """
        self._validate_params()
        X, n_samples = self._check_rows(X, reset=True), _num_samples(X)
        has_teacher = self.teacher is not None or teacher_proba is not None
        unlabeled, labels = check_labels(y, n_samples, has_teacher)
        labeled, pool = np.flatnonzero(~unlabeled), np.flatnonzero(unlabeled)
        warn_if_silent(self.teacher, has_teacher, len(pool))
        source = find_source(
            self.teacher, X, labeled, labels, teacher_proba, classes, self.random_state
        )
        answers = None if source is None else Answers(source, n_samples)
        if reserve is not None and answers is not None:
            pool = np.setdiff1d(pool, reserve(pool[answers.may_ask(pool)]))
        self.teacher_ = getattr(source, "classifier", None)
        self.classes_ = np.unique(labels) if answers is None else answers.classes
        codes = np.searchsorted(self.classes_, labels)
        student = make_student(self.estimator, X, self.random_state)
        # What learns nothing from the rounds, such as an encoder, is run once.
        split = StatelessSteps(student, X)
        problem = TrainingProblem(split.X, split.estimator, self.classes_, labeled, codes, pool)
        with Meter(self.teacher_) as meter, verbosity(self.verbose):
            if answers is None:
                trained = train_on_labels(problem)
            else:
                last = last_step(student)
                device = last.device if is_net(last) and self.random_state is not None else None
                with torch_seeded(self.random_state, device):
                    trained = ask_and_train(self, problem, answers)
        explain(self, problem, answers, trained)
        self.estimator_ = split.join(trained.student)
        self._summary = summarize(answers, meter)
        return answers

    def _use_of_rows(self):
        weight = np.zeros(len(self.labeled_iter_))
        weight[self.sample_indices_] = self.sample_weight_
        return {"round": self.labeled_iter_, "used": weight > 0, "weight": weight}

    def fit_resample(self, X, y=None, *, teacher_proba=None, classes=None):
        """Fit, and return the rows that the student was fitted on, with hard labels.

        The weights and soft labels of these rows are `sample_weight_` and `soft_labels_`.

        Parameters
        ----------
        X, y, teacher_proba, classes
            As for `fit`.

        Returns
        -------
        X_resampled : like X
            Each row once, in the order of X.
        y_resampled : like y
        """
        self.fit(X, y, teacher_proba=teacher_proba, classes=classes)
        if issparse(X):
            X = X.tocsr()
        rows = self.sample_indices_
        return _safe_indexing(X, rows), labels_like(y, self.transduction_[rows], rows)

    def score(self, X, y, sample_weight=None):
        """Compute the accuracy.

        Parameters
        ----------
        X : like in `fit`
        y : array-like of shape (n_samples,)
            Numbers may be held as objects, as they are beside None.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        check_is_fitted(self)
        y = labels_to_score(y, self.classes_)
        return accuracy_score(y, self.predict(X), sample_weight=sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        return tags
