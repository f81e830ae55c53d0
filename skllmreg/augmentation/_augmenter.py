"""`GOLDAugmenter`: an LLM writes training rows where the student is weak."""

from functools import partial
from numbers import Integral, Real

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin, MetaEstimatorMixin
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_consistent_length

from skllmreg.augmentation._base import (
    AugmenterMixin,
    check_classes,
    make_curator,
    make_grid,
    make_study,
    rehearse_final,
    seeds,
)
from skllmreg.augmentation._energy import STRATEGIES, check_ood_score
from skllmreg.augmentation._kinds import NoKind, kind_of
from skllmreg.augmentation._requests import class_quotas, make_plan
from skllmreg.augmentation._student import (
    TrainingRows,
    check_labels,
    default_student,
    make_label_check,
)
from skllmreg.students import TextClassifier
from skllmreg.students._fitting import fit_student
from skllmreg.students._predictions import StudentPredictions
from skllmreg.students._text import encoder_of
from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._frames import joined
from skllmreg.utils._shared import SharedByClones
from skllmreg.utils._validation import check_rows


class GOLDAugmenter(
    StudentPredictions,
    AugmenterMixin,
    DocLinkMixin,
    ClassifierMixin,
    MetaEstimatorMixin,
    SharedByClones,
):
    """Have an LLM write training rows, in rounds, near what the student finds unfamiliar.

    Rows are texts, several texts (such as premise and hypothesis), or table rows. In every round
    the LLM writes rows of each class from a few labeled ones. What is malformed, repeats a row or
    the instructions, or has the wrong label by a `teacher`, is refused. With ``strategy="gold"``
    the student of the round ranks the new rows by how unfamiliar they are; those above the middle,
    but not the farthest, are shown in every other request of the next round, to write near them
    [1]_. At the end a fresh student learns from all rows.

    Parameters
    ----------
    estimator : classifier, default=None
        The student. None is :class:`~skllmreg.students.TextClassifier` for texts and several texts,
        and for tables logistic regression on scaled numbers, words of texts and one-hot categories.
        Every ``random_state=None`` in it gets a seed.
    llm : ChatModel, or any object with `complete`, default=None
        Who writes; needs a `task`.
    generator : callable, default=None
        In place of the LLM: takes a :class:`GenerationRequest`, returns rows: a list of str; for
        tables and several texts a list of ``{column: value}``, or a data frame. The columns of an
        array are called x0, x1, ...
    teacher : classifier with `predict_proba`, default=None
        Checks labels, see `label_check`. A fitted one goes in
        :class:`~sklearn.frozen.FrozenEstimator`; any other is fitted on the labeled rows.
    task : str, default=None
        What the classes distinguish, in a sentence.
    class_descriptions : dict of label to str, default=None
        What belongs to each class, for the LLM.
    feature_descriptions : dict of str to str, default=None
        What the columns of a table hold, and in which unit.
    text_columns : "auto" or list, default="auto"
        Columns of a table that are texts. "auto": those of strings that are long or hardly repeat;
        other columns of strings are closed sets of categories, of which a warning tells before
        anything is paid for.
    encoder : SentenceEncoder, or what it takes as its `model`, default=None
        Sentence encoder of the default student. Texts whose vectors have a cosine of .95 or more
        are near-duplicates, in whatever words. None: words alone, unless `estimator` is a
        :class:`~skllmreg.students.TextClassifier` or a pipeline with a sentence encoder, which then
        finds near-duplicates as well.
    strategy : {"auto", "gold", "random-feedback", "errors", "coverage", "no-feedback"}, \
            default="auto"
        Which rows the requests show, to write near them. "gold": written ones in a band of how
        unfamiliar they are. "random-feedback": as many written ones, from anywhere. "errors":
        labeled ones that a student of the written rows gets wrong. "coverage": labeled ones that
        are farthest from the written rows. "no-feedback": none; as many requests, none of them for
        other topics. "auto" is what has paid with real models (:ref:`generation_evidence`):
        "no-feedback", but "gold" for texts with ``n_novel_batches > 0``.
    n_rounds : int, default=None
        Maximum number of rounds. None: as many as `n_samples` or `max_requests` take, else 5.
    n_batches : int, default=None
        Requests of a round, besides those for other topics. None: one for each class.
    n_novel_batches : int, default=0
        Requests of a round for other topics, which feedback then comes from, instead of from all
        rows of the round before.
    batch_size : int, default=8
        Rows asked for in a request.
    n_samples : int or dict of label to int, default=None
        Rows wanted in all, the same number for each class, or by class. None: what comes.
    max_requests : int, default=None
        Maximum number of requests for rows; one whose reply is sent back for repair counts once.
    n_seed_examples : int, default=3
        Labeled rows of the class in a request, drawn anew for each.
    n_feedback : int, default=2
        Rows to write near in a request with feedback.
    feedback_every : int, default=2
        Every so-many-th request of a class has feedback.
    feedback_quantiles : tuple of float, default=(0.5, 0.75)
        Band of scores that feedback comes from; what is above it is treated as noise.
    show_batch : bool, default=False
        If True, requests for other topics come after the others of their round, and show rows of
        them to keep away from, as the paper's do.
    keep_student : bool, default=False
        If True, one student is trained on from round to round by its `partial_fit`, as the
        paper's; otherwise each round fits a fresh one.
    ood_score : "energy" or outlier detector, default="energy"
        What tells how unfamiliar a row is: the energy of the student's logits
        (:func:`~skllmreg.augmentation.energy_score`), or minus `score_samples` of a detector, such
        as :class:`~sklearn.ensemble.IsolationForest`, that is fitted to the rows so far.
    temperature : float, default=1.0
        Temperature of the energy.
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
    verbose : bool, default=None
        Whether progress is shown. None: a bar where stderr is a terminal or a notebook's and the
        work takes more than two seconds, elsewhere a line every minute.

    Attributes
    ----------
    estimator_ : classifier
        Fitted to the labeled and the generated rows.
    classes_ : ndarray of shape (n_classes,)
    X_generated_ : array of texts, or table of shape (n_generated, n_features)
    y_generated_ : ndarray of shape (n_generated,)
    generation_round_ : ndarray of int of shape (n_generated,)
        Round of each row, from 0.
    ood_scores_ : ndarray of shape (n_generated,)
        How unfamiliar a row was to the student of its round, which had not seen it. NaN for rows
        that were no candidates for feedback, and for the last round.
    rejected_ : list of (row, label, round, reason, detail)
        Named tuples. The reason is "invalid", "prompt" (it repeats what was asked), "form" (unlike
        all labeled rows), "duplicate", "near-duplicate", "label", "quota", or "reply" for a reply
        without a usable row.
    history_ : list of dict
        For each round: "requests" answered; rows of "feedback" shown; "rows" that came, "accepted",
        "rejected" (by reason) and "novel" among the accepted; the "band" of scores by class;
        "prompt_tokens", "completion_tokens"; "cost" in dollars of the LLM and the teacher's during
        the round (None where one cannot say), and "cost_per_row" accepted.
    n_requests_ : int
        Number of requests answered.
    termination_condition_ : {"n_samples", "max_requests", "n_rounds", "nothing_new", "budget", \
            "error"}
        "nothing_new": two rounds in succession brought, of every class that lacks rows, less than a
        twentieth of what was asked for. "" where there was nobody to write.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Only for tables and several texts.

    Raises
    ------
    GenerationError
        If nothing that was written can be used; shows three of the replies.

    Warns
    -----
    NoLLMWarning, NoAttributesWarning, ClosedSetWarning
        Without an LLM and a generator; where ``attributes="auto"`` got no usable answer; and where
        columns of short strings are treated as closed sets of categories.
    GenerationStoppedWarning
        If the budget of the LLM was spent, rounds brought nothing new before `n_samples`, or the
        `generator` raised an error when there were rows.

    Notes
    -----
    Whatever ends `fit`, the rows accepted so far are in `X_generated_` and `y_generated_`; after an
    error of an LLM or an interrupt there is no `estimator_`. Answers of a ``ChatModel`` with a
    cache are not paid for twice: with an int as `random_state`, fitting again goes on.

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

    _parameter_constraints: dict = AugmenterMixin._parameter_constraints | {
        "estimator": [HasMethods(["fit"]), None],
        "teacher": [HasMethods(["predict_proba"]), None],
        "class_descriptions": [dict, None],
        "feature_descriptions": [dict, None],
        "text_columns": [StrOptions({"auto"}), list, tuple],
        "encoder": [object],
        "n_batches": [Interval(Integral, 1, None, closed="left"), None],
        "n_novel_batches": [Interval(Integral, 0, None, closed="left")],
        "n_samples": [Interval(Integral, 1, None, closed="left"), dict, None],
        "feedback_every": [Interval(Integral, 1, None, closed="left")],
        "show_batch": ["boolean"],
        "keep_student": ["boolean"],
        "ood_score": [StrOptions({"energy"}), HasMethods(["fit"])],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "attributes": [StrOptions({"auto"}), dict, None],
        "duplicate_threshold": [Interval(Real, 0, 1, closed="right"), None],
        "label_check": [StrOptions({"auto", "teacher", "student", "dynamics"}), None],
        "final_estimator": [HasMethods(["fit"]), None],
    }
    _shared_by_clones = ("llm", "generator", "encoder")

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
        text_columns="auto",
        encoder=None,
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
        show_batch=False,
        keep_student=False,
        ood_score="energy",
        temperature=1.0,
        attributes="auto",
        duplicate_threshold=0.8,
        label_check="auto",
        final_estimator=None,
        random_state=None,
        verbose=None,
    ):
        self.estimator = estimator
        self.llm = llm
        self.generator = generator
        self.teacher = teacher
        self.task = task
        self.class_descriptions = class_descriptions
        self.feature_descriptions = feature_descriptions
        self.text_columns = text_columns
        self.encoder = encoder
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
        self.show_batch = show_batch
        self.keep_student = keep_student
        self.ood_score = ood_score
        self.temperature = temperature
        self.attributes = attributes
        self.duplicate_threshold = duplicate_threshold
        self.label_check = label_check
        self.final_estimator = final_estimator
        self.random_state = random_state
        self.verbose = verbose

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
        self._validate_params()
        X, codes = self._check_data(X, y)
        student = self.estimator
        if student is None:
            student = default_student(X, self.text_columns, self.encoder)
        final = self.final_estimator if self.final_estimator is not None else student
        rng, seed = seeds(self.random_state)
        if self.llm is None and self.generator is None:
            self._keep_nothing(TrainingRows(X, codes, self.classes_, NoKind(X)))
        else:
            kind = kind_of(
                X,
                text_columns=self.text_columns,
                feature_descriptions=self.feature_descriptions,
            )
            data = TrainingRows(X, codes, self.classes_, kind)
            outcome = self._write(data, student, seed, rng)
            X = joined(X, self.X_generated_)
            codes = np.append(codes, [one.code for one in outcome.accepted])
        self.estimator_ = fit_student(final, X, codes, self.classes_, random_state=seed)
        return self

    def _write(self, data, student, seed, rng):
        """Have rows written; what cannot work is an error before anything is paid for."""
        strategy = self.strategy
        if strategy == "auto":
            # Feedback has not paid; who asks for other topics wants the paper's loop on texts.
            wanted = data.kind.of_texts and self.n_novel_batches > 0
            strategy = "gold" if wanted else "no-feedback"
        if self.final_estimator is not None:
            rehearse_final(self.final_estimator, data, seed)
        if STRATEGIES[strategy].source == "written" and self.n_feedback:
            check_ood_score(self.ood_score, student)
        study = make_study(self, data, student, seed, strategy=strategy, ood_score=self.ood_score)
        labels = data.labels
        quotas = class_quotas(self.n_samples, labels)
        plan = make_plan(
            self,
            quotas,
            strategy=strategy,
            n_batches=len(labels) if self.n_batches is None else self.n_batches,
            n_novel_batches=self.n_novel_batches,
            feedback_every=self.feedback_every,
        )
        return self._grow(
            data,
            plan,
            rng,
            study=study,
            make_check=partial(make_label_check, self.label_check, data, student, self.teacher),
            curator=make_curator(
                self,
                data.kind,
                quotas,
                labels,
                duplicate_threshold=self.duplicate_threshold,
                encoder=encoder_of(
                    student if self.encoder is None else TextClassifier(self.encoder)
                ),
            ),
            grid=partial(make_grid, self, data),
        )

    def _check_data(self, X, y):
        self.__dict__.pop("estimator_", None)  # of an earlier fit, should this one fail
        if issparse(X):
            raise TypeError("Sparse data are not supported: X is texts, or a dense table.")
        X, y = check_rows(self, X, reset=True), check_labels(self, y)
        check_consistent_length(X, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        check_classes(self, self.classes_.tolist(), codes)
        return X, codes

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
