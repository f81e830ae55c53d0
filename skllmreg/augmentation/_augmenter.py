"""`GOLDAugmenter`: an LLM writes training rows where the student is weak."""

from numbers import Integral, Real

from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

STRATEGIES = ("gold", "random-feedback", "no-feedback")


class GOLDAugmenter(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Have an LLM write training rows, in rounds, near what the student finds unfamiliar."""

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit"]), None],
        "llm": [HasMethods(["complete"]), None],
        "generator": [callable, None],
        "teacher": [HasMethods(["predict_proba"]), None],
        "task": [str, None],
        "class_descriptions": [dict, None],
        "feature_descriptions": [dict, None],
        "strategy": [StrOptions(set(STRATEGIES))],
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
        "n_batches": [Interval(Integral, 1, None, closed="left"), None],
        "n_novel_batches": [Interval(Integral, 0, None, closed="left"), None],
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
        strategy="gold",
        n_rounds=5,
        n_batches=None,
        n_novel_batches=None,
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
        duplicate_threshold=0.85,
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
        """Generate rows and fit a fresh student to the labelled and the generated ones."""
        raise NotImplementedError

    def fit_resample(self, X, y):
        """Fit; return X and y with the generated rows after the labelled ones."""
        raise NotImplementedError
