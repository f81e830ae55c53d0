"""`LLMTeacherClassifier`: an LLM as a classifier of texts or of table rows."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skllmreg.selection._calibration import expected_calibration_error, fit_calibration
from skllmreg.selection._prompts import read_stated, row_question, row_text, stated_question
from skllmreg.students._checks import check_texts, is_text


class LLMTeacherClassifier(ClassifierMixin, BaseEstimator):
    """Zero- or few-shot classifier by an LLM, with probabilities and abstention.

    With `class_descriptions` it needs no fit. `fit` takes examples for the prompt and calibrates
    with the other labelled rows.

    Parameters
    ----------
    llm : ChatModel, default=None
        The model to ask; needed to predict.
    task : str, default=None
        What is to be told apart, in a sentence.
    class_descriptions : dict of label to str, default=None
        What the labels mean; its keys are the classes where nothing is fitted.
    n_examples : int, default=0
        Labelled rows in the prompt, drawn in `fit` from all classes in turn. A row is never shown
        as an example for itself.
    confidence : {"auto", "logprobs", "votes", "stated"}, default="auto"
        Where probabilities come from: log-probabilities of label codes; shares among `n_samples`
        answers; numbers that the LLM states, the least reliable. "auto": the first where the server
        tells it, else the second.
    n_samples : int, default=5
        Answers for each row where votes are counted.
    calibrate : bool, default=False
        Have `fit` ask about labelled rows that are no examples and find a temperature.
        `LLKDSelector` does so by itself, within its budget.
    abstain_below : float, default=0.0
        `predict` gives `abstain_label` where the largest probability is below this, in place of a
        guess.
    abstain_label : object, default=None
        None is -1 for numbers and None for other labels: what `LLKDSelector` takes for unlabelled.
    random_state : int, RandomState instance or None, default=None
        Draws the examples.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    examples_ : list of (str, label)
    calibration_ : Calibration or None
    calibration_error_ : tuple of float or None
        Expected calibration error on the rows of the calibration, before and after it; with
        ``calibrate=True``. After is optimistic: the same rows found the temperature.

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

    # To LLKDSelector: it does not know the labelled rows, and is calibrated by the selector.
    _is_prompted = True

    _parameter_constraints: dict = {
        "llm": [HasMethods(["complete", "label_probabilities"]), None],
        "task": [str, None],
        "class_descriptions": [dict, None],
        "n_examples": [Interval(Integral, 0, None, closed="left")],
        "confidence": [StrOptions({"auto", "logprobs", "votes", "stated"})],
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "calibrate": ["boolean"],
        "abstain_below": [Interval(Real, 0, 1, closed="both")],
        "abstain_label": "no_validation",
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
        n_samples=5,
        calibrate=False,
        abstain_below=0.0,
        abstain_label=None,
        random_state=None,
    ):
        self.llm = llm
        self.task = task
        self.class_descriptions = class_descriptions
        self.n_examples = n_examples
        self.confidence = confidence
        self.n_samples = n_samples
        self.calibrate = calibrate
        self.abstain_below = abstain_below
        self.abstain_label = abstain_label
        self.random_state = random_state

    def fit(self, X, y):
        """Take examples and calibrate; without either, only the classes are learned.

        Parameters
        ----------
        X : texts, or table of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)

        Returns
        -------
        self
        """
        self._validate_params()
        texts, y = rows_as_text(X), column_or_1d(y, warn=True)
        check_consistent_length(texts, y)
        check_classification_targets(y)
        labels = [*np.unique(y).tolist(), *(self.class_descriptions or {})]
        if len({isinstance(label, str) for label in labels}) > 1:
            raise ValueError(
                f"Some of the labels {labels} are strings and some are not: y and the keys of "
                "class_descriptions have to be of one kind."
            )
        self._classes = np.unique(np.array(labels))
        codes = np.searchsorted(self.classes_, y)
        shown = draw_examples(codes, self.n_examples, check_random_state(self.random_state))
        self.examples_ = [(texts[i], y[i]) for i in shown]
        self.calibration_ = self.calibration_error_ = None
        rest = np.setdiff1d(np.arange(len(y)), shown)
        if self.calibrate and len(rest):
            proba = self._ask([texts[i] for i in rest])
            self.calibration_ = fit_calibration(proba, codes[rest])
            self.calibration_error_ = tuple(
                expected_calibration_error(p, codes[rest])
                for p in (proba, self.calibration_(proba))
            )
        return self

    @property
    def classes_(self):
        """The sorted labels: fitted, or as far as they are described."""
        if hasattr(self, "_classes"):
            return self._classes
        if self.class_descriptions:
            return np.unique(np.array(list(self.class_descriptions)))
        raise AttributeError("The classes are not known before fit, without class_descriptions.")

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
        """
        proba = self._ask(rows_as_text(X))
        calibration = getattr(self, "calibration_", None)
        return proba if calibration is None else calibration(proba)

    def predict(self, X):
        """Ask for the classes; see `abstain_below`.

        Parameters
        ----------
        X : texts, or table of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        proba = self.predict_proba(X)
        predicted = self.classes_[proba.argmax(axis=1)]
        unsure = proba.max(axis=1) < self.abstain_below
        if not unsure.any():
            return predicted
        label = self.abstain_label
        if predicted.dtype.kind in "if" and (label is None or isinstance(label, Real)):
            return np.where(unsure, -1 if label is None else np.asarray(label), predicted)
        return np.where(unsure, np.array(label, dtype=object), predicted.astype(object))

    def _ask(self, texts):
        self._validate_params()
        if self.llm is None or not self.task:
            raise ValueError(
                "LLMTeacherClassifier needs llm=ChatModel(...) and task=, a sentence that says "
                "what is to be told apart."
            )
        if not hasattr(self, "classes_"):
            raise NotFittedError(
                "LLMTeacherClassifier does not know the classes: give class_descriptions or fit it."
            )
        classes = self.classes_.tolist()
        labels = [shown(label) for label in classes]
        descriptions = self.class_descriptions or {}
        described = {shown(label): descriptions.get(label) for label in classes}
        examples = [(text, shown(label)) for text, label in getattr(self, "examples_", [])]
        # A text that is there twice is paid for once.
        different = [*dict.fromkeys(texts)]
        questions = [
            row_question(self.task, labels, described, [e for e in examples if e[0] != text], text)
            for text in different
        ]
        if self.confidence != "stated":
            proba = self.llm.label_probabilities(
                questions, labels, n_samples=self.n_samples, method=self.confidence
            ).probabilities
        else:
            asked = [stated_question(question, labels) for question in questions]
            replies = self.llm.complete(
                [prompt for prompt, _ in asked], schema=asked[0][1], validate=read_stated
            )
            proba = np.array([[reply.value[label] for label in labels] for reply in replies])
        position = {text: i for i, text in enumerate(different)}
        return proba[[position[text] for text in texts]]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.requires_fit = not self.class_descriptions
        return tags


def shown(label):
    """Write a label; whole numbers as such, though they may be floats beside NaN."""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return str(label)


def draw_examples(codes, n_examples, rng):
    """Draw rows from all classes in turn, so that few examples show many classes."""
    order = rng.permutation(len(codes))
    turn = np.empty(len(codes), int)
    for k in np.unique(codes):
        own = order[codes[order] == k]
        turn[own] = np.arange(len(own))
    return order[np.argsort(turn[order], kind="stable")][:n_examples]


def rows_as_text(X):
    """Turn rows into what is shown to the LLM: texts as they are, table rows as name: value."""
    if is_text(X):
        return check_texts(X).tolist()
    if hasattr(X, "columns"):
        names, rows = list(X.columns), np.asarray(X, dtype=object)
    else:
        rows = np.asarray(X, dtype=object)
        if rows.ndim != 2:
            raise ValueError(f"X is a sequence of texts or a table; its shape is {rows.shape}.")
        names = [f"x{i}" for i in range(rows.shape[1])]
    return [row_text(names, row) for row in rows]
