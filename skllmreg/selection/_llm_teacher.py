"""`LLMTeacherClassifier`: an LLM as a classifier of texts or of table rows."""

from dataclasses import replace
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skllmreg.exceptions import InvalidReplyError, NoAnswerError, UndescribedClassWarning
from skllmreg.llm import LabelProbabilities, as_chat
from skllmreg.llm._labels import names_tell_apart
from skllmreg.llm._quote import rehearse
from skllmreg.selection._answers import unanswered
from skllmreg.selection._prompts import (
    of_one_kind,
    partial_answers,
    read_stated,
    row_questions,
    rows_as_text,
    shown,
    stated_instructions,
    stated_schema,
)
from skllmreg.selection._unlabeled import is_unlabeled, known_labels, turns
from skllmreg.students._calibration import (
    batch_calibrated,
    expected_calibration_error,
    fit_calibration,
)
from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._labels import is_missing, label_array
from skllmreg.utils._warn import warn


class LLMTeacherClassifier(DocLinkMixin, ClassifierMixin, BaseEstimator):
    """Zero- or few-shot classifier by an LLM, with probabilities and abstention.

    With `class_descriptions` it needs no fit. `fit` takes examples for the prompt and calibrates
    with the other labeled rows.

    Parameters
    ----------
    llm : ChatModel, default=None
        The model to ask; needed to predict.
    task : str, default=None
        What the classes distinguish, in a sentence.
    class_descriptions : dict of label to str, default=None
        What the labels mean; its keys are the classes where nothing is fitted. Some of
        scikit-learn's tools (:func:`~sklearn.model_selection.cross_val_predict`) number the sorted
        labels before they fit: for these describe the numbers, too, after the labels.
    n_examples : int, default=0
        Labeled rows in the prompt, drawn in `fit` from all classes in turn. A row is never shown
        as an example for itself.
    confidence : {"auto", "logprobs", "votes", "stated"}, default="auto"
        Where probabilities come from: log-probabilities of the answer; shares among `n_samples`
        answers; numbers that the LLM states, the least reliable. "auto": the first where the server
        tells it, else the second.
    answer_with : {"auto", "name", "code"}, default="auto"
        How the LLM answers: with a label's name, which small models do better, or with a letter
        (a number, for many labels). "auto" is the names where their first tokens differ, as
        described in :meth:`ChatModel.label_probabilities
        <skllmreg.llm.ChatModel.label_probabilities>`; with ``calibrate=True``, `fit` asks about the
        labeled rows in both ways and takes the one with the lower log-loss.
    n_samples : int, default=5
        Answers for each row where votes are counted.
    calibrate : bool, default=False
        Have `fit` ask about labeled rows that are no examples and find a temperature.
        `LLKDSelector` does so by itself, within its budget.
    calibration : {"batch", None}, default=None
        "batch" divides the probabilities of all rows of a call by their mean over these rows [1]_:
        no labels are needed, and a model's preference for the name of a class is removed. It helps
        small models and hurts where classes are of very different size. A row's prediction then
        depends on the other rows of the call, so that calls of fewer than 50 rows are left alone.
    abstain_below : float, default=0.0
        `predict` gives `abstain_label` where the largest probability is below this, in place of a
        guess.
    abstain_label : object, default=None
        None is -1 for numbers and None for other labels: what `LLKDSelector` takes for unlabeled.
    on_refusal : {"raise", "abstain"}, default="raise"
        What becomes of rows that the LLM refuses, a filter stops, or whose reply is still of no use
        after two repair rounds: an error that names them, once all others are answered; or no
        answer, which is NaN in `predict_proba`, and `abstain_label` in `predict`.
    random_state : int, RandomState instance or None, default=None
        Draws the examples.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    examples_ : list of (str, label)
    answer_with_ : {"auto", "name", "code"}
        What `fit` has chosen.
    calibration_ : Calibration or None
    calibration_error_ : tuple of float or None
        Expected calibration error on the rows of the calibration, before and after it; with
        ``calibrate=True``. After is optimistic: the same rows found the temperature.
    server_limits_ : dict of str to str
        What the server is known not to take, such as log-probabilities, and what that costs.

    References
    ----------
    .. [1] Zhou et al. (2024), "Batch calibration: rethinking calibration for in-context learning
       and prompt engineering", ICLR, arXiv:2309.17249.

    Examples
    --------
    >>> from skllmreg import ChatModel, LLMTeacherClassifier
    >>> teacher = LLMTeacherClassifier(
    ...     ChatModel("gpt-4o-mini"),
    ...     task="Sort messages to the help desk.",
    ...     class_descriptions={"refund": "wants money back", "delivery": "asks for a parcel"},
    ... )
    >>> teacher.classes_
    array(['delivery', 'refund'], dtype='<U8')
    >>> teacher.predict(["Where is my parcel?"])  # doctest: +SKIP
    array(['delivery'], dtype=object)
    """

    # To LLKDSelector: it does not know the labeled rows, and is calibrated by the selector.
    _is_prompted = True

    _parameter_constraints: dict = {
        "llm": [HasMethods(["complete"]), None],
        "task": [str, None],
        "class_descriptions": [dict, None],
        "n_examples": [Interval(Integral, 0, None, closed="left")],
        "confidence": [StrOptions({"auto", "logprobs", "votes", "stated"})],
        "answer_with": [StrOptions({"auto", "name", "code"})],
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "calibrate": ["boolean"],
        "calibration": [StrOptions({"batch"}), None],
        "abstain_below": [Interval(Real, 0, 1, closed="both")],
        "abstain_label": "no_validation",
        "on_refusal": [StrOptions({"raise", "abstain"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        llm=None,
        *,
        task=None,
        class_descriptions=None,
        n_examples=0,
        confidence="auto",
        answer_with="auto",
        n_samples=5,
        calibrate=False,
        calibration=None,
        abstain_below=0.0,
        abstain_label=None,
        on_refusal="raise",
        random_state=None,
    ):
        self.llm = llm
        self.task = task
        self.class_descriptions = class_descriptions
        self.n_examples = n_examples
        self.confidence = confidence
        self.answer_with = answer_with
        self.n_samples = n_samples
        self.calibrate = calibrate
        self.calibration = calibration
        self.abstain_below = abstain_below
        self.abstain_label = abstain_label
        self.on_refusal = on_refusal
        self.random_state = random_state

    def fit(self, X, y):
        """Take examples and calibrate; without either, only the classes are learned.

        Parameters
        ----------
        X : texts, or table of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            Rows of -1 (unless it is described), None, NaN or ``pd.NA`` are passed over.

        Returns
        -------
        self
        """
        self._validate_params()
        texts, y = rows_as_text(X), column_or_1d(label_array(y), warn=True)
        check_consistent_length(texts, y)
        rows, labels = self._labeled(y)
        texts = [texts[i] for i in rows]
        described = of_one_kind(self.class_descriptions, labels[0])
        if self.class_descriptions and not described:
            raise ValueError(
                f"y holds {labels[0]!r}, class_descriptions has {[*self.class_descriptions]}: they "
                "have to be of one kind. (cross_val_predict and other tools number the sorted "
                "labels before they fit: for these describe the numbers, too.)"
            )
        mute = [label for label in np.unique(labels).tolist() if label not in described]
        if described and mute:
            warn(
                f"class_descriptions has {[*described]}, and not {mute[0]!r}, which y holds.",
                UndescribedClassWarning,
            )
        self._classes = np.unique(np.array([*np.unique(labels).tolist(), *described]))
        if len(self._classes) < 2:
            raise ValueError(
                f"There is a single class, {labels[0]!r}, and nothing to tell apart. (A label -1 "
                "marks rows without one, unless class_descriptions has it.)"
            )
        codes = np.searchsorted(self.classes_, labels)
        # From all classes in turn, so that few examples show many classes.
        order = check_random_state(self.random_state).permutation(len(codes))
        examples = order[np.argsort(turns(codes[order]), kind="stable")][: self.n_examples]
        self.examples_ = [(texts[i], labels[i]) for i in examples]
        self.calibration_ = self.calibration_error_ = None
        self.answer_with_ = self.answer_with
        rest = np.setdiff1d(np.arange(len(rows)), examples)
        if self.calibrate and len(rest):
            self._calibrate([texts[i] for i in rest], rows[rest], codes[rest])
        return self

    def _labeled(self, y):
        """Rows with a label, and the labels; -1 is one if it is described."""
        unlabeled = self._unlabeled(y)
        if unlabeled.all():
            raise ValueError("No row of y has a label; with class_descriptions, no fit is needed.")
        labels = known_labels(y, unlabeled)
        check_classification_targets(labels)
        return np.flatnonzero(~unlabeled), labels

    def _unlabeled(self, y):
        if -1 in (self.class_descriptions or {}):
            return np.array([is_missing(label) for label in y.tolist()], dtype=bool)
        return is_unlabeled(y)

    def _calibrate(self, texts, rows, codes):
        best = np.inf
        for way in self._ways():
            proba = self._batch(self._ask(texts, rows, way).probabilities)
            answered = np.isfinite(proba[:, 0])
            if not answered.any():
                continue
            proba, truth = proba[answered], codes[answered]
            calibration = fit_calibration(proba, truth)
            calibrated = calibration(proba)
            # Compared as they will be used: calibrated. A row without an answer counts as none.
            likelihood = calibrated[np.arange(len(truth)), truth]
            loss = -np.log(likelihood).sum() + (~answered).sum() * np.log(len(self._classes))
            if loss < best:
                best, self.answer_with_, self.calibration_ = loss, way, calibration
                self.calibration_error_ = tuple(
                    expected_calibration_error(p, truth) for p in (proba, calibrated)
                )

    def _ways(self):
        """How labeled rows are asked about, to find out which way is better."""
        labels = [shown(label) for label in self.classes_.tolist()]
        both = self.answer_with == "auto" and self.confidence != "stated"
        return ("name", "code") if both and names_tell_apart(labels) else (self.answer_with,)

    @property
    def classes_(self):
        """The sorted labels: fitted, or as far as they are described."""
        if hasattr(self, "_classes"):
            return self._classes
        if self.class_descriptions:
            first = next(iter(self.class_descriptions))
            return np.unique(np.array(of_one_kind(self.class_descriptions, first)))
        raise AttributeError("The classes are not known before fit, without class_descriptions.")

    @property
    def server_limits_(self):
        """What the server does not take, as far as it is known, and what that costs: a dict."""
        try:
            return {} if self.llm is None else as_chat(self.llm).refused()
        except ValueError as error:  # of wrong parameters: `dir` and the HTML repr look at this
            raise AttributeError(f"No limits are known: {error}") from None

    def __sklearn_is_fitted__(self):
        return hasattr(self, "classes_")

    def predict_proba(self, X):
        """Ask for the classes' probabilities.

        Parameters
        ----------
        X : texts, or table of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            NaN in rows without an answer.

        Raises
        ------
        InvalidReplyError
            See `on_refusal`; `failures` has what is wrong by row, `replies` what the others got.
        """
        return self.answers(X).probabilities

    def answers(self, X):
        """Ask for the classes' probabilities, and say where each row's come from.

        Parameters
        ----------
        X : texts, or table of shape (n_samples, n_features)

        Returns
        -------
        LabelProbabilities
            `probabilities` as from `predict_proba`; `method` is "logprobs", "votes" or "stated", or
            "" in rows without an answer; `cached` is True where nothing was sent for the row.
        """
        texts = rows_as_text(X)
        found = self._ask(texts, range(len(texts)), getattr(self, "answer_with_", self.answer_with))
        proba = self._batch(found.probabilities)
        calibration = getattr(self, "calibration_", None)
        if calibration is not None:
            proba = calibration(proba)
        return replace(found, probabilities=proba)

    def _batch(self, proba):
        return batch_calibrated(proba) if self.calibration == "batch" else proba

    def questions(self, X):
        """What is asked about each row, but for how to answer; nothing is sent.

        Parameters
        ----------
        X : texts, or table of shape (n_samples, n_features)

        Returns
        -------
        list of list of {"role", "content"}
            One conversation for each row.
        """
        self._check_before_asking()
        return self._questions(rows_as_text(X))

    def quote(self, X, y=None):
        """Estimate what `predict` or `fit` would ask of the LLM; nothing is sent.

        Parameters
        ----------
        X : texts, or table of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            None: what ``predict(X)`` takes; otherwise ``fit(X, y)``, which asks only where
            ``calibrate=True``.

        Returns
        -------
        Quote

        Examples
        --------
        >>> from skllmreg import ChatModel, LLMTeacherClassifier
        >>> teacher = LLMTeacherClassifier(
        ...     ChatModel("gpt-4.1-mini", prices=(0.4, 1.6), cache=None),
        ...     task="Sort messages to the help desk.",
        ...     class_descriptions={"refund": "wants money back", "delivery": "asks for a parcel"},
        ... )
        >>> teacher.quote(["Where is my parcel?", "Refund me"]).requests
        2
        """
        if y is None:
            return rehearse(self, lambda teacher: teacher.answers(X))
        return rehearse(self, lambda teacher: teacher.fit(X, y))

    def predict(self, X):
        """Ask for the classes; see `abstain_below`.

        Parameters
        ----------
        X : texts, or table of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        self._check_before_asking()
        may_abstain = self.abstain_below > 0 or self.on_refusal == "abstain"
        if may_abstain and self.abstain_label is None and -1 in self.classes_.tolist():
            raise ValueError(
                "-1 is a class, and what a row without an answer gets: give an abstain_label."
            )
        proba = self.predict_proba(X)
        predicted = self.classes_[proba.argmax(axis=1)]
        unsure = ~(proba.max(axis=1) >= self.abstain_below)
        if not unsure.any():
            return predicted
        label = self.abstain_label
        if predicted.dtype.kind in "if" and (label is None or isinstance(label, Real)):
            return np.where(unsure, -1 if label is None else np.asarray(label), predicted)
        return np.where(unsure, np.array(label, dtype=object), predicted.astype(object))

    def score(self, X, y, sample_weight=None):
        """Compute the accuracy; a row without an answer is a wrong one.

        Parameters
        ----------
        X : texts, or table of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        y, predicted = column_or_1d(label_array(y)), self.predict(X)
        check_consistent_length(y, predicted)
        unlabeled = self._unlabeled(y).tolist()
        right = [
            label == other and not without
            for label, other, without in zip(y.tolist(), predicted.tolist(), unlabeled, strict=True)
        ]
        return float(np.average(right, weights=sample_weight))

    def _ask(self, texts, rows, answer_with):
        """Ask about texts, which are so many rows of X; NaN where there is no answer."""
        self._check_before_asking()
        # A text that is there twice is paid for once.
        different = [*dict.fromkeys(texts)]
        position = {text: i for i, text in enumerate(different)}
        order = [position[text] for text in texts]
        labels = [shown(label) for label in self.classes_.tolist()]
        ask = self._ask_to_state if self.confidence == "stated" else self._ask_for_label
        try:
            found = ask(self._questions(different), labels, answer_with)
        except InvalidReplyError as error:
            if self.on_refusal == "raise" or isinstance(error, NoAnswerError):
                failed = {
                    int(rows[texts.index(different[i])]): failure
                    for i, failure in error.failures.items()
                }
                replies = [error.replies[i] for i in order]
                raise unanswered(failed, error, replies) from None
            found = error.answers or partial_answers(error.replies, labels)
        return LabelProbabilities(
            found.probabilities[order], found.method[order], found.cached[order]
        )

    def _questions(self, texts):
        labels = [shown(label) for label in self.classes_.tolist()]
        descriptions = self.class_descriptions or {}
        described = {shown(label): text for label, text in descriptions.items()}
        examples = [(text, shown(label)) for text, label in getattr(self, "examples_", [])]
        return row_questions(texts, self.task, labels, described, examples)

    def _ask_for_label(self, questions, labels, answer_with):
        options = {} if answer_with == "auto" else {"answer_with": answer_with}
        return as_chat(self.llm).label_probabilities(
            questions, labels, n_samples=self.n_samples, method=self.confidence, **options
        )

    def _ask_to_state(self, questions, labels, answer_with):
        for question in questions:
            question[0]["content"] = stated_instructions(question[0]["content"], labels)
        replies = as_chat(self.llm).complete(
            questions, schema=stated_schema(labels), validate=read_stated
        )
        return partial_answers(replies, labels)

    def _check_before_asking(self):
        self._validate_params()
        if self.llm is None or not (self.task or "").strip():
            raise ValueError(
                "LLMTeacherClassifier needs llm=ChatModel(...) and task=, a sentence that says "
                "what the classes distinguish."
            )
        if not hasattr(self, "classes_"):
            raise NotFittedError(
                "LLMTeacherClassifier does not know the classes: give class_descriptions or fit it."
            )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.requires_fit = not self.class_descriptions
        return tags
