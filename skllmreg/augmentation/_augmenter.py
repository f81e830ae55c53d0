"""`GOLDAugmenter`: an LLM writes training rows where the student is weak."""

from numbers import Integral, Real

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.utils import check_random_state, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_y,
    check_consistent_length,
    check_is_fitted,
)

from skllmreg.augmentation._rows import labeled
from skllmreg.augmentation._setup import check_params, make_loop, make_scores
from skllmreg.augmentation._student import default_student
from skllmreg.exceptions import GenerationStoppedWarning, NoLLMWarning
from skllmreg.students._fitting import fit_student, student_has, student_predict
from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._frames import joined
from skllmreg.utils._labels import is_missing, is_string, label_array
from skllmreg.utils._validation import check_rows
from skllmreg.utils._warn import warn

STRATEGIES = ("gold", "random-feedback", "no-feedback")


class GOLDAugmenter(DocLinkMixin, ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Have an LLM write training rows, in rounds, near what the student finds unfamiliar.

    In every round the LLM writes rows of each class from a few labeled ones, and rows on *other
    topics*. The latter are ranked by how far they are from what the student knows. Those above
    the middle, but not the farthest, are shown in every other request of the next round, to write
    near them [1]_. What does not fit the table, repeats a row or has the wrong label by a `teacher`
    is refused. At the end a fresh student learns from all rows.

    Parameters
    ----------
    estimator : classifier, default=None
        The student. None is :class:`~skllmreg.students.TextClassifier` for texts, and for tables
        :class:`~sklearn.linear_model.LogisticRegression` after scaling and one-hot encoding.
        Every ``random_state=None`` in it gets a seed.
    llm : ChatModel, default=None
        Who writes; needs a `task`.
    generator : callable, default=None
        In place of the LLM: takes a :class:`GenerationRequest`, returns rows: a list of str; for
        tables a list of ``{column: value}``, or a data frame. The columns of an array are called
        x0, x1, ...
    teacher : classifier with `predict_proba`, default=None
        Checks labels, see `label_check`. A fitted one goes in
        :class:`~sklearn.frozen.FrozenEstimator`; any other is fitted on the labeled rows.
    task : str, default=None
        What is to be told apart, in a sentence.
    class_descriptions : dict of label to str, default=None
    feature_descriptions : dict of str to str, default=None
        What the columns of a table hold, and in which unit.
    strategy : {"auto", "gold", "random-feedback", "no-feedback"}, default="auto"
        "gold": feedback from the band. "random-feedback": as many rows, from anywhere.
        "no-feedback": as many requests, all without feedback or other topics. "auto": "gold" for
        texts, "no-feedback" for tables, where feedback has not paid.
    n_rounds : int, default=None
        Most rounds. None: as many as `n_samples` or `max_requests` take, else 5.
    n_batches : int, default=None
        Requests of a round, besides those for other topics. None: one for each class. The paper
        has 25.
    n_novel_batches : int, default=0
        Requests of a round for other topics, which feedback then comes from. With 0, it comes from
        all rows of the round before. The paper has 1.
    batch_size : int, default=8
        Rows asked for in a request.
    n_samples : int or dict of label to int, default=None
        Rows wanted in all, the same number for each class, or by class. None: what comes.
    max_requests : int, default=None
        Most requests for rows; one whose reply is sent back for repair counts once.
    n_seed_examples : int, default=3
        Labeled rows of the class in a request, drawn anew for each.
    n_feedback : int, default=2
        Unfamiliar rows in a request with feedback.
    feedback_every : int, default=2
        Of the requests of a class each so-many-th has feedback.
    feedback_quantiles : tuple of float, default=(0.5, 0.75)
        The band of scores that feedback comes from; what is above it is taken for noise.
    ood_score : "energy" or outlier detector, default="energy"
        What tells how unfamiliar a row is: the energy of the student's logits
        (:func:`~skllmreg.augmentation.energy_score`), or minus `score_samples` of a detector, such
        as :class:`~sklearn.ensemble.IsolationForest`, that is fitted to the rows so far.
    temperature : float, default=1.0
        Of the energy.
    attributes : "auto", dict or None, default="auto"
        What rows are to differ in: ``{"topic": ["shipping", "prices"], "length": [...]}``, the
        lists for all classes or by label. "auto": the LLM is asked for them, once; a `generator`
        gets none.
    duplicate_threshold : float or None, default=0.8
        Similarity to a row that is there from which a new one counts as its repetition. None: only
        equal ones.
    label_check : {"auto", "teacher", "student", "dynamics"} or None, default="auto"
        Who doubts the labels of new rows. "auto": the teacher, if there is one.
    final_estimator : classifier, default=None
        Trained at the end in place of `estimator`, such as a net with
        :class:`~skllmreg.nn.SymmetricCrossEntropyLoss`.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    estimator_ : classifier
        Fitted to the labeled and the generated rows.
    classes_ : ndarray of shape (n_classes,)
    X_generated_ : array of texts, or table of shape (n_generated, n_features)
    y_generated_ : ndarray of shape (n_generated,)
    generation_round_ : ndarray of int of shape (n_generated,)
        From 0.
    ood_scores_ : ndarray of shape (n_generated,)
        Of rows that were candidates for feedback: how unfamiliar they were to the student of their
        round, which had not seen them. NaN for the others, and for the last round.
    rejected_ : list of (row, label, round, reason)
        Named tuples; ``pandas.DataFrame(rejected_)`` is a table of them.
    history_ : list of dict
        For each round: "requests" that were answered; rows of "feedback" shown; "rows" that came,
        "accepted" and "rejected" (by reason), "novel" ones among the accepted; the "band" of scores
        for each class; "prompt_tokens" and "completion_tokens" of usable answers, "cost" in
        dollars that the LLM and the teacher's have taken during the round, with all that is done
        with them at the same time (None where one does not tell), and "cost_per_row" accepted.
    n_requests_ : int
        Answered in all.
    termination_condition_ : {"n_samples", "max_requests", "n_rounds", "nothing_new", "budget", \
            "error"}
        "nothing_new": of every class that lacks rows two rounds in succession brought less than a
        twentieth of what was asked for. "" where there was nobody to write.
    n_features_in_ : int
        Not for texts.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Raises
    ------
    GenerationError
        If nothing that was written can be used; shows three of the replies.

    Warns
    -----
    NoLLMWarning
        If there is neither an LLM nor a generator: the student is fitted on the labeled rows.
    NoAttributesWarning
        If ``attributes="auto"`` got no usable answer: rows are written without.
    GenerationStoppedWarning
        If the budget of the LLM was spent, or rounds brought nothing new before `n_samples`.

    Notes
    -----
    Whatever ends `fit`, an error of the generator or an interrupt too, the rows accepted so far are
    in `X_generated_` and `y_generated_`, and there is no `estimator_`. Answers of a ``ChatModel``
    with a cache are not paid for twice: with an int as `random_state`, fitting again goes on where
    it ended.

    References
    ----------
    .. [1] Gholami et al. (2024), "GOLD: Generalized knowledge distillation via out-of-distribution-
       guided language data generation", Findings of NAACL, arXiv:2403.19754.

    Examples
    --------
    >>> from skllmreg import GOLDAugmenter
    >>> texts = ["Where is my parcel?", "My order is late", "I want my money back", "Refund me"]
    >>> labels = ["parcel", "parcel", "money", "money"]
    >>> words = {"parcel": ["box", "delivery", "courier"], "money": ["bill", "charge", "card"]}
    >>> def generator(request):
    ...     rng = np.random.RandomState(request.random_state)
    ...     subject = rng.choice(words[request.label], request.n_rows)
    ...     return [f"About the {word}, case {rng.randint(10**6)}" for word in subject]
    >>> import numpy as np
    >>> model = GOLDAugmenter(generator=generator, n_samples=40, random_state=0)
    >>> X, y = model.fit_resample(texts, labels)
    >>> len(X), y.count("money")
    (44, 22)
    >>> model.predict(["What about this charge on my card?"])
    array(['money'], dtype='<U6')
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit"]), None],
        "llm": [HasMethods(["complete"]), None],
        "generator": [callable, None],
        "teacher": [HasMethods(["predict_proba"]), None],
        "task": [str, None],
        "class_descriptions": [dict, None],
        "feature_descriptions": [dict, None],
        "strategy": [StrOptions({"auto", *STRATEGIES})],
        "n_rounds": [Interval(Integral, 1, None, closed="left"), None],
        "n_batches": [Interval(Integral, 1, None, closed="left"), None],
        "n_novel_batches": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_samples": [Interval(Integral, 1, None, closed="left"), dict, None],
        "max_requests": [Interval(Integral, 1, None, closed="left"), None],
        "n_seed_examples": [Interval(Integral, 0, None, closed="left")],
        "n_feedback": [Interval(Integral, 0, None, closed="left")],
        "feedback_every": [Interval(Integral, 1, None, closed="left")],
        "feedback_quantiles": [tuple, list],
        "ood_score": [StrOptions({"energy"}), HasMethods(["fit"])],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "attributes": [StrOptions({"auto"}), dict, None],
        "duplicate_threshold": [Interval(Real, 0, 1, closed="right"), None],
        "label_check": [StrOptions({"auto", "teacher", "student", "dynamics"}), None],
        "final_estimator": [HasMethods(["fit"]), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator=None,
        *,
        llm=None,
        generator=None,
        teacher=None,
        task=None,
        class_descriptions=None,
        feature_descriptions=None,
        strategy="auto",
        n_rounds=None,
        n_batches=None,
        n_novel_batches=0,
        batch_size=8,
        n_samples=None,
        max_requests=None,
        n_seed_examples=3,
        n_feedback=2,
        feedback_every=2,
        feedback_quantiles=(0.5, 0.75),
        ood_score="energy",
        temperature=1.0,
        attributes="auto",
        duplicate_threshold=0.8,
        label_check="auto",
        final_estimator=None,
        random_state=None,
    ):
        self.estimator = estimator
        self.llm = llm
        self.generator = generator
        self.teacher = teacher
        self.task = task
        self.class_descriptions = class_descriptions
        self.feature_descriptions = feature_descriptions
        self.strategy = strategy
        self.n_rounds = n_rounds
        self.n_batches = n_batches
        self.n_novel_batches = n_novel_batches
        self.batch_size = batch_size
        self.n_samples = n_samples
        self.max_requests = max_requests
        self.n_seed_examples = n_seed_examples
        self.n_feedback = n_feedback
        self.feedback_every = feedback_every
        self.feedback_quantiles = feedback_quantiles
        self.ood_score = ood_score
        self.temperature = temperature
        self.attributes = attributes
        self.duplicate_threshold = duplicate_threshold
        self.label_check = label_check
        self.final_estimator = final_estimator
        self.random_state = random_state

    def fit(self, X, y):
        """Generate rows, and fit a fresh student to the labeled and the generated ones.

        Parameters
        ----------
        X : texts or table of shape (n_samples, n_features)
            Texts are a sequence of str; tables a data frame or an array.
        y : array-like of shape (n_samples,)

        Returns
        -------
        self
        """
        return self._fit(X, y)

    def _fit(self, X, y):
        # Of warnings both `fit` and `fit_resample` are as far from the user's line.
        self._validate_params()
        X, codes = self._check_data(X, y)
        student = self.estimator if self.estimator is not None else default_student(X)
        final = self.final_estimator if self.final_estimator is not None else student
        rng = check_random_state(self.random_state)
        seed = rng.randint(2**31 - 1)  # of every student
        if self.llm is None and self.generator is None:
            message = "There is no LLM and no generator: the student learns the labeled rows."
            warn(message, NoLLMWarning)
            self._keep(X[:0], None)
        else:
            data = labeled(X, codes, self.classes_, self.feature_descriptions)
            scores = make_scores(self, data, student, seed)
            loop = make_loop(self, data, student, scores, rng)
            try:
                loop.run()
            finally:
                self._keep(data.as_X([one.row for one in loop.accepted]), loop)
            self._warn_if_stopped(loop)
            X = joined(X, self.X_generated_)
            codes = np.append(codes, [one.code for one in loop.accepted])
        self.estimator_ = fit_student(final, X, codes, self.classes_, random_state=seed)
        return self

    def fit_resample(self, X, y):
        """Fit, and return the rows that the student was fitted on.

        Parameters
        ----------
        X, y
            As for `fit`.

        Returns
        -------
        X_resampled, y_resampled : like X and y
            The labeled rows in their order, then the generated ones. The index of a data frame or
            series starts anew.
        """
        if self.llm is None and self.generator is None:
            raise ValueError("fit_resample needs llm=ChatModel(...) or generator=, to write rows.")
        self._fit(X, y)
        return joined(X, self.X_generated_), joined(y, self.y_generated_)

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
        X = self._checked(X)
        return student_predict(self.estimator_, X, self.classes_)

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
        X = self._checked(X)
        return self.estimator_.predict_proba(X)

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
        X = self._checked(X)
        return self.estimator_.decision_function(X)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "estimator_")

    def _checked(self, X):
        check_is_fitted(self)
        return check_rows(self, X, reset=False)

    def _check_data(self, X, y):
        self.__dict__.pop("estimator_", None)  # of an earlier fit, should this one fail
        if issparse(X):
            raise TypeError("Sparse data are not supported: X is texts, or a dense table.")
        X, y = check_rows(self, X, reset=True), label_array(y)
        labels = y.tolist() if y.ndim == 1 else []
        if missing := [i for i, label in enumerate(labels) if is_missing(label)]:
            raise ValueError(
                f"Row {missing[0]} of y has no label. GOLDAugmenter learns from labeled rows: "
                "leave the others out; LLKDSelector learns from them, too."
            )
        if len({is_string(label) for label in labels}) > 1:
            raise ValueError("y holds texts beside other labels: make all of them texts, or none.")
        y = _check_y(y, estimator=self)
        check_consistent_length(X, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        check_params(self, self.classes_.tolist())
        return X, codes

    def _keep(self, X_generated, loop):
        """Set what the rounds brought; None for no rounds."""
        accepted = [] if loop is None else loop.accepted
        self.X_generated_ = X_generated
        self.y_generated_ = self.classes_[np.array([one.code for one in accepted], dtype=int)]
        self.generation_round_ = np.array([one.round for one in accepted], dtype=int)
        self.ood_scores_ = np.array([one.score for one in accepted], dtype=float)
        self.rejected_ = [] if loop is None else loop.rejected
        self.history_ = [] if loop is None else loop.history
        self.n_requests_ = sum(entry["requests"] for entry in self.history_)
        self.termination_condition_ = "" if loop is None else loop.termination or "error"

    def _warn_if_stopped(self, loop):
        reasons = {"budget": "the budget of the LLM was spent"}
        if self.n_samples is not None:
            labels = self.classes_.tolist()
            given_up = ", ".join(f"{labels[k]!r:.50}" for k in sorted(loop.asker.given_up))
            of_which = f" of {given_up}" if given_up else ""
            reasons["nothing_new"] = f"rounds brought (almost) nothing new{of_which}"
        if reason := reasons.get(self.termination_condition_):
            message = f"Generation stopped with {len(self.y_generated_)} rows: {reason}."
            warn(message, GenerationStoppedWarning)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.string = True
        # A student may be no estimator of scikit-learn's.
        tags.input_tags.allow_nan = self.estimator is None or (
            hasattr(self.estimator, "__sklearn_tags__")
            and get_tags(self.estimator).input_tags.allow_nan
        )
        return tags
