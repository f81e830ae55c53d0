"""Classifier that knows what an LLM thinks of its features."""

import warnings
from numbers import Real

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from skllmreg.attribution._aligned import MIN_LENGTH, fit_aligned
from skllmreg.attribution._evidence import (
    PLAIN_WEIGHT,
    candidate_priors,
    fit_candidate,
    model_average,
)
from skllmreg.attribution._loss import encode_labels
from skllmreg.attribution._scaling import feature_scaling, scaled
from skllmreg.attribution._scores import (
    AVERAGED_TRANSFORMS,
    SCORE_TRANSFORMS,
    parse_attributions,
    target_direction,
)
from skllmreg.exceptions import NoLLMWarning, PriorConflictWarning


class LLMAttributionRegularizedClassifier(ClassifierMixin, BaseEstimator):
    r"""Linear classifier whose coefficients are drawn to an LLM's scores of the features.

    ``gamma`` is the weight of ``1 - cos(coef, scores)`` in the objective; the ``gamma = 100`` of
    the LAAT paper [1]_ is ``gamma=200 / n_features`` here.

    The LLM is asked how much each feature speaks for a class, from -10 to 10, without seeing any
    row. With ``gamma="auto"`` the labels decide how far it is trusted: logistic regressions under
    priors of many strengths are averaged by their evidence [2]_. With few rows the model follows
    the scores, with many it is a ridge logistic regression.

    Parameters
    ----------
    llm : ChatModel, default=None
        The model to ask. Asked once per set of features; `attributions` take its place.
    task : str, default=None
        What is predicted, in a sentence; part of the question.
    feature_descriptions : dict of str to str, or list of str, default=None
        Descriptions of the features; part of the question. Names alone work, less well.
    class_descriptions : dict of class to str, default=None
        What the class labels mean; part of the question.
    attributions : dict, list of dict, array-like, Attributions or None, default=None
        Scores from -10 to 10 in place of an LLM:

        - ``{feature: score}``, or a list of such: several estimates;
        - an array of shape (n_features,) or (n_estimates, n_features);
        - ``{class: one of these}``. Two classes need one key only: what speaks for
          ``classes_[0]`` speaks against ``classes_[1]``.

        Without classes, they speak for ``classes_[1]``. Names are matched, with or without the
        prefixes of a `ColumnTransformer`; there may be more scores than columns.
    gamma : "auto" or float, default="auto"
        Weight of the alignment. 0 is logistic regression with the ridge `alpha`.
    score_transform : {"auto", "identity", "expm1", "exp"} or callable, default="auto"
        How scores s become a direction: s, sign(s)(exp(abs(s)/2) - 1) or the paper's
        sign(s)exp(abs(s)). "auto" averages over three expm1's of different concentration with
        ``gamma="auto"`` and is "expm1" otherwise. A callable takes and returns an array.
    n_estimates : int, default=5
        Independent answers of the LLM.
    alpha : float, default=0.01
        Weight of the ridge ``alpha / 2 * norm(coef)**2`` beside the mean log-loss; only with a
        numeric `gamma`.
    standardize : bool, default=True
        Scale features inside; ``coef_`` is in the units of X all the same. False takes X as it
        is, which then has to be scaled: scores are about features of comparable spread.
    class_weight : dict or "balanced", default=None
        Weights of the classes, as in :class:`~sklearn.linear_model.LogisticRegression`.
    max_iter : int, default=1000
        Most iterations of the solver with a numeric `gamma`.
    tol : float, default=1e-6
        Largest entry of the objective's gradient at the solution with a numeric `gamma`.
    random_state : int, RandomState instance or None, default=None
        Without effect for the linear model, which is deterministic.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
    intercept_ : ndarray of shape (1,) or (n_classes,)
    attributions_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Mean scores; a single row speaks for ``classes_[1]``. None without scores.
    attribution_estimates_ : ndarray of shape (n_estimates, 1 or n_classes, n_features)
        The estimates they are the mean of; None without scores.
    agreement_ : float
        ROC AUC of the scores alone on the training rows (several classes: mean of one class
        against the others): 1 where labels and scores agree, 0.5 for none, 0 where they contradict.
    prior_weight_ : float
        With ``gamma="auto"``, the probability that the scores are worth using at all: 0.95 before
        the labels were seen, 0 without scores.
    gamma_ : float
        The weight used; with "auto", the one that would pull as hard as the average of priors.
    candidates_ : dict of str to ndarray
        With ``gamma="auto"``, the priors averaged over: "transform" of the scores ("none" is the
        plain ridge), "tau" (deviation allowed from the scores), "slope" fitted to them,
        "log_evidence" and "weight".
    n_iter_ : int
        Iterations of the solver; with "auto", the most that a candidate took.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Warns
    -----
    NoLLMWarning
        If there is neither an `llm` nor `attributions`: ridge logistic regression, its strength
        found as above.
    PriorConflictWarning
        If the labels contradict the scores.

    See Also
    --------
    skllmreg.datasets.load_attributions : Recorded scores to try it with.

    Notes
    -----
    The objective with a numeric gamma is the mean log-loss
    + gamma (1 - cos(W, T)) + alpha/2 norm(W)^2 over the coefficients W of scaled features, T the
    transformed scores; with several classes both are centred over the classes and the cosine is
    that of all entries. The paper's recipe is::

        make_pipeline(MinMaxScaler(), LLMAttributionRegularizedClassifier(
            ..., gamma=200 / n_features, score_transform="exp", standardize=False))

    References
    ----------
    .. [1] Vukadin, Šilić, Delač (2025), "Large Language Models as Attribution Regularizers for
       Efficient Model Training", arXiv:2502.20268.
    .. [2] MacKay (1992), "The evidence framework applied to classification networks", Neural
       Computation 4.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from skllmreg import LLMAttributionRegularizedClassifier
    >>> from skllmreg.datasets import load_attributions
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> few = [*y[y == 0].index[:5], *y[y == 1].index[:5]]
    >>> scores = load_attributions("breast_cancer").attributions
    >>> model = LLMAttributionRegularizedClassifier(attributions=scores)
    >>> model.fit(X.loc[few], y[few]).score(X.drop(index=few), y.drop(index=few)) > 0.9
    True
    """

    _parameter_constraints: dict = {
        "task": [str, None],
        "feature_descriptions": [dict, list, None],
        "class_descriptions": [dict, None],
        "gamma": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "score_transform": [StrOptions({"auto", *SCORE_TRANSFORMS}), callable],
        "n_estimates": [Interval(Real, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "standardize": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "max_iter": [Interval(Real, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        llm=None,
        *,
        task=None,
        feature_descriptions=None,
        class_descriptions=None,
        attributions=None,
        gamma="auto",
        score_transform="auto",
        n_estimates=5,
        alpha=0.01,
        standardize=True,
        class_weight=None,
        max_iter=1000,
        tol=1e-6,
        random_state=None,
    ):
        self.llm = llm
        self.task = task
        self.feature_descriptions = feature_descriptions
        self.class_descriptions = class_descriptions
        self.attributions = attributions
        self.gamma = gamma
        self.score_transform = score_transform
        self.n_estimates = n_estimates
        self.alpha = alpha
        self.standardize = standardize
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self
        """
        self._validate_params()
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64)
        check_classification_targets(y)
        weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        X, y, weight = X[weight > 0], y[weight > 0], weight[weight > 0]
        self.classes_, y = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"Rows of at least two classes are needed; y has one class: {self.classes_[0]!r}."
            )
        weight = weight * self._class_weights(y, weight)[y]
        Y = encode_labels(y, len(self.classes_))

        self.attribution_estimates_ = estimates = self._estimates()
        self.attributions_ = None if estimates is None else estimates.mean(axis=0)
        location, scale = np.zeros(X.shape[1]), np.ones(X.shape[1])
        if self.standardize:
            location, scale = feature_scaling(X, weight)
        Z = scaled(X, location, scale)
        self._measure_agreement(Z, Y, weight)
        if self.gamma == "auto":
            coef, intercept = self._fit_auto(Z, Y, weight)
        else:
            coef, intercept = self._fit_fixed(Z, Y, weight)
        self.coef_ = coef / scale
        self.intercept_ = intercept - self.coef_ @ location
        return self

    def _class_weights(self, y, sample_weight):
        labels = self.classes_[y]
        return compute_class_weight(
            self.class_weight, classes=self.classes_, y=labels, sample_weight=sample_weight
        )

    def _estimates(self):
        """Scores of the LLM or the user, (n_estimates, n_outputs, n_features), or None."""
        attributions = self.attributions
        if attributions is None and self.llm is None:
            if self.gamma != 0:
                warnings.warn(
                    "Neither `llm` nor `attributions` is given: the model is a ridge logistic "
                    "regression.",
                    NoLLMWarning,
                    stacklevel=3,
                )
            return None
        names = getattr(self, "feature_names_in_", None)
        return parse_attributions(attributions, names, self.n_features_in_, self.classes_)

    def _measure_agreement(self, Z, Y, weight):
        self.agreement_ = np.nan
        if self.attributions_ is None:
            return
        target = target_direction(self.attributions_, self._single_transform())
        scores = np.asarray(Z @ target.T)
        self.agreement_ = float(
            np.mean(
                [
                    roc_auc_score(labels, score, sample_weight=weight)
                    for labels, score in zip(Y.T, scores.T, strict=True)
                ]
            )
        )

    def _single_transform(self):
        if callable(self.score_transform):
            return self.score_transform
        return SCORE_TRANSFORMS["expm1" if self.score_transform == "auto" else self.score_transform]

    def _fit_auto(self, Z, Y, weight):
        if self.score_transform == "auto":
            transforms = AVERAGED_TRANSFORMS
        else:
            transforms = {str(self.score_transform): (self._single_transform(), 1.0)}
        priors = candidate_priors(Z, weight, Y.shape[1], self.attribution_estimates_, transforms)
        fits = [fit_candidate(Z, Y, weight, prior) for prior in priors]
        weights, coef, intercept = model_average(priors, fits)
        self.candidates_ = {
            "transform": np.array([prior.transform for prior in priors]),
            "tau": np.array([prior.tau for prior in priors]),
            "slope": np.array([fit.slope for fit in fits]),
            "log_evidence": np.array([fit.log_evidence for fit in fits]),
            "weight": weights,
        }
        # Near its prior's direction, a candidate's penalty |V|^2 / (2 n tau^2) is
        # gamma (1 - cos) with this gamma.
        pulls = [
            np.vdot(fit.slope * prior.target, fit.slope * prior.target) / prior.tau**2
            for prior, fit in zip(priors, fits, strict=True)
        ]
        self.gamma_ = float(weights @ pulls / weight.sum())
        self.n_iter_ = max(fit.n_iter for fit in fits)
        self.prior_weight_ = float(1 - weights[self.candidates_["transform"] == "none"].sum())
        if self.attributions_ is not None and np.any(self.attributions_):
            self._warn_of_conflict(weight.sum())
        return coef, intercept

    def _warn_of_conflict(self, total):
        """Warn if the labels want the scores ignored, or turned round."""
        odds_before = (1 - PLAIN_WEIGHT) / PLAIN_WEIGHT
        odds = self.prior_weight_ / max(1 - self.prior_weight_, 1e-300)
        # Standard deviation of the AUC of scores without meaning, for classes of equal size.
        chance = np.sqrt(1 / (3 * total))
        if odds < odds_before / 3 or self.agreement_ < 0.5 - 2 * chance:
            warnings.warn(
                "The labels contradict the attribution scores: alone they rank the training rows "
                f"with an AUC of {self.agreement_:.2f}, and the odds that they help went from "
                f"{odds_before:.0f} to {odds:.2g}. The model follows the labels; check which class "
                "the scores speak for, and how the features are coded.",
                PriorConflictWarning,
                stacklevel=4,
            )

    def _fit_fixed(self, Z, Y, weight):
        target = np.zeros((Y.shape[1], Z.shape[1]))
        if self.attributions_ is not None:
            target = target_direction(self.attributions_, self._single_transform())
        coef, intercept, self.n_iter_, converged = fit_aligned(
            Z,
            Y,
            weight,
            target,
            gamma=self.gamma,
            alpha=self.alpha,
            max_iter=self.max_iter,
            tol=self.tol,
        )
        self.gamma_ = float(self.gamma)
        if not converged:
            warnings.warn(
                f"The solver stopped after {self.n_iter_} iterations; raise max_iter or tol.",
                ConvergenceWarning,
                stacklevel=3,
            )
        if np.linalg.norm(coef) <= MIN_LENGTH * 1.001 and self.gamma > 0 and np.any(target):
            warnings.warn(
                "The labels contradict the attribution scores, and with this gamma the scores "
                "win: the coefficients keep their direction, with next to no slope. Lower gamma, "
                'or let the labels decide with gamma="auto".',
                PriorConflictWarning,
                stacklevel=3,
            )
        return coef, intercept

    def decision_function(self, X):
        """Compute the logit of ``classes_[1]``, or the softmax's input for several classes.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        eta = np.asarray(X @ self.coef_.T) + self.intercept_
        return eta.ravel() if eta.shape[1] == 1 else eta

    def predict_proba(self, X):
        """Compute the classes' probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        eta = self.decision_function(X)
        return softmax(eta, axis=1) if eta.ndim == 2 else np.column_stack([expit(-eta), expit(eta)])

    def predict(self, X):
        """Predict the most probable class.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        eta = self.decision_function(X)
        return self.classes_[eta.argmax(axis=1) if eta.ndim == 2 else (eta > 0).astype(int)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
