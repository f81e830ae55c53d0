"""`LLMAttributionRegularizedClassifier`: models drawn to an LLM's scores of the features."""

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from skllmreg.attribution._agreement import mean_auc
from skllmreg.attribution._base import AttributionModel
from skllmreg.attribution._label_holes import find_hole
from skllmreg.attribution._laplace import laplace_solver
from skllmreg.attribution._loss import LOG_LOSS, encode_classes, encode_labels, prior_shift
from skllmreg.attribution._network import has_network
from skllmreg.attribution._numbers import validate_numbers
from skllmreg.exceptions import OverconfidentWarning
from skllmreg.utils._labels import known_target
from skllmreg.utils._warn import warn

STEEP = 3.0  # standard deviation of the logits that few rows cannot tell


class LLMAttributionRegularizedClassifier(ClassifierMixin, AttributionModel):
    r"""Linear classifier whose coefficients are drawn to an LLM's scores of the features.

    ``gamma`` is the weight of ``1 - cos(coef, scores)`` in the objective; the ``gamma = 100`` of
    the LAAT paper [1]_ is ``gamma=200 / n_features`` here.

    The LLM is asked how much each feature speaks for a class, from -10 to 10, without seeing any
    row. With ``gamma="auto"`` the labels decide how far it is trusted: logistic regressions under
    priors of many strengths are averaged by their evidence [2]_. With few rows the model follows
    the scores, with many it is a ridge logistic regression.

    With `hidden_layer_sizes` or a `module`, a network whose attributions are drawn to the scores;
    with ``gamma="auto"`` it is added to the linear model and learns what that one leaves.

    Parameters
    ----------
    llm : ChatModel, default=None
        The model to ask. Asked once per set of features; `attributions` take its place.
    task : str, default=None
        What is predicted, in a sentence; part of the question.
    feature_descriptions : dict of str to str, or list of str, default=None
        Descriptions of the features; part of the question. Names alone work, less well.
    class_descriptions : dict of class to str, default=None
        What the class labels mean; part of the question. Some of scikit-learn's tools
        (:func:`~sklearn.model_selection.cross_val_predict`,
        :class:`~sklearn.ensemble.StackingClassifier`) number the sorted labels before they fit:
        for these describe the numbers, too, ``{"ill": ..., "well": ..., 0: ..., 1: ...}``.
    attributions : dict, list of dict, array-like, Attributions or None, default=None
        Scores from -10 to 10 in place of an LLM:

        - ``{feature: score}``, or a list or a data frame of such rows: several estimates;
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
        Weight of the ridge ``alpha / 2 * norm(coef)**2`` beside the mean log-loss, of a network
        that of all weights but biases; only with a numeric `gamma`.
    standardize : bool, default=True
        Scale features inside; ``coef_`` is in the units of X all the same. Sparse X is not
        centered. False takes X as it is, which then has to be scaled: scores are about features
        of comparable spread.
    class_weight : dict or "balanced", default=None
        Weights of the classes, as in :class:`~sklearn.linear_model.LogisticRegression`.
    class_prior : array-like of shape (n_classes,) or dict of class to float, default=None
        Shares of the classes where the model will be used, if they are known to differ from those
        in training: few labeled rows are often drawn so that classes are balanced. The logarithm
        of the ratio is added to `decision_function`; the ranking of two classes stays the same.
    label_holes : "auto", list of column names or None, default="auto"
        Groups of training rows (``column <= value`` or ``> value``) that lack a class, against
        what the scores and the other rows lead to expect: as where no woman was ever diagnosed.
        The model does not learn from that lack, see :ref:`skew`. "auto" looks for them in all
        columns, a list names the columns that have one; None takes all labels at their word. Only
        with ``gamma="auto"`` and scores.
    max_iter : int, default=1000
        Most iterations of the solver with a numeric `gamma`.
    tol : float, default=1e-6
        Largest entry of the objective's gradient at the solution with a numeric `gamma`, and of a
        network without `batch_size`.
    hidden_layer_sizes : int or sequence of int, default=()
        Hidden units (SiLU) of each layer of a network; () is the linear model.
    module : class, callable or torch.nn.Module, default=None
        A network of your own instead, from scaled features to logits. An instance is copied,
        else ``module(n_features, n_outputs)`` makes it. Its kind of number is kept (float32).
    alignment : {"gradient", "input_x_gradient", "integrated_gradients"}, default="gradient"
        What of the network is drawn to the scores. The last two are relative to the mean row.
    per_sample : bool, default=True
        Whether the attributions of every row are, or only their mean, as in the authors' code.
    max_epochs : int, default=30
        Most iterations of the network's solver, or passes over the rows with a `batch_size`.
    batch_size : int, default=None
        None trains the network on all rows at once, by L-BFGS; a number by Adam, on that many
        rows at a time, which also suits random layers such as dropout.
    learning_rate : float, default=0.01
        Of Adam.
    early_stopping : bool, default=False
        Whether the network's training stops, and goes back to its best, when the loss on rows held
        out has not fallen for 10 epochs.
    validation_fraction : float, default=0.1
        Share of the labeled rows held out for it.
    device : str, default="cpu"
        Where torch trains the network and predicts: "cpu", "cuda", "cuda:1".
    random_state : int, RandomState instance or None, default=None
        Initial weights, order of batches and rows held out of the network; the linear model is
        deterministic.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Of the linear model, to which with ``gamma="auto"`` a network is added; None if a network
        is all there is.
    intercept_ : ndarray of shape (1,) or (n_classes,)
    network_ : skorch net or None
        The fitted network, from scaled features to outputs in ``network_.module_``.
    attributions_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Mean scores; a single row speaks for ``classes_[1]``. None without scores.
    attribution_estimates_ : ndarray of shape (n_estimates, 1 or n_classes, n_features)
        The estimates they are the mean of; None without scores.
    elicited_attributions_ : Attributions
        What `llm` answered, to be read, saved, edited; None if it was not asked.
    scale_ : ndarray of shape (n_features,)
        What the features were divided by: standard deviations, for an indicator half its range;
        infinite for a feature that does not vary, but 2 if it is 0 or 1 throughout: it may be an
        indicator. Ones without `standardize`.
    agreement_ : float
        ROC AUC of the scores alone on the training rows (several classes: mean of one class
        against the others): 1 where labels and scores agree, 0.5 for none, 0 where they contradict.
    prior_weight_ : float
        With ``gamma="auto"``, the probability that the scores are worth using at all: 0.95 before
        the labels were seen, 0 without scores.
    gamma_ : float
        The weight used; with "auto", the one that would pull as hard as the average of priors, or
        that with which a network is drawn to the linear model.
    label_holes_ : list of dict
        The groups that lack a class: "column", "threshold", "side" ("<=" or ">"), "class",
        "n_rows" in the group, those of the class "observed" and "expected", and "p_value", that
        of the difference times the number of groups scanned.
    candidates_ : dict of str to ndarray
        With ``gamma="auto"``, the priors averaged over, but for those of next to no weight:
        "transform" of the scores ("none" is the plain ridge), "tau" (deviation allowed from the
        scores), "slope" fitted to them,
        "log_evidence" and "weight".
    n_iter_ : int
        Iterations of the solver; with "auto", the most that a candidate took.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Warns
    -----
    NoLLMWarning
        If there is neither an `llm` nor `attributions`: ridge logistic regression, its strength
        found as above.
    PriorConflictWarning
        If the labels contradict the scores: with "auto", if these alone rank the training rows
        worse than chance, or if the labels do without them and shuffled scores rank as well or
        these half as well as the model.
    LabelHoleWarning
        If a group of training rows lacks a class.
    OverconfidentWarning
        If a numeric `gamma` makes probabilities steeper than so few rows can tell.
    FewRowsForScaleWarning
        If the scale of the features comes from fewer than six rows.
    UnscaledFeaturesWarning
        If with ``standardize=False`` a column's spread is 1000 times another's.

    See Also
    --------
    skllmreg.datasets.load_attributions : Recorded scores to try it with.

    Notes
    -----
    The objective with a numeric gamma is the mean log-loss
    + gamma (1 - cos(W, T)) + alpha/2 norm(W)^2 over the coefficients W of scaled features, T the
    transformed scores; with several classes both are centered over the classes and the cosine is
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
    >>> scores = load_attributions("breast_cancer")
    >>> model = LLMAttributionRegularizedClassifier(attributions=scores)
    >>> model.fit(X.loc[few], y[few]).score(X.drop(index=few), y.drop(index=few)) > 0.9
    True
    """

    _parameter_constraints: dict = {
        **AttributionModel._parameter_constraints,
        "class_descriptions": [dict, None],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "class_prior": [dict, "array-like", None],
    }

    _CHANCE = 0.5

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
        class_prior=None,
        label_holes="auto",
        max_iter=1000,
        tol=1e-6,
        hidden_layer_sizes=(),
        module=None,
        alignment="gradient",
        per_sample=True,
        max_epochs=30,
        batch_size=None,
        learning_rate=0.01,
        early_stopping=False,
        validation_fraction=0.1,
        device="cpu",
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
        self.class_prior = class_prior
        self.label_holes = label_holes
        self.max_iter = max_iter
        self.tol = tol
        self.hidden_layer_sizes = hidden_layer_sizes
        self.module = module
        self.alignment = alignment
        self.per_sample = per_sample
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None, *, X_unlabeled=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight 2 counts as two rows. With ``gamma="auto"`` the sum of the weights is
            therefore the number of rows that speak against the scores.
        X_unlabeled : like X of shape (n_unlabeled, n_features), default=None
            Rows without labels, from which the scale of the features is found: better than from a
            handful of labeled ones, above all for columns that are constant in those. In a
            Pipeline: ``Pipeline(..., transform_input=["X_unlabeled"])``. The attributions of a
            network are aligned there too.

        Returns
        -------
        self
        """
        self._validate_params()
        X, y = validate_numbers(self, X, known_target(y))
        weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        X, y, weight = X[weight > 0], y[weight > 0], weight[weight > 0]
        self.classes_, codes, weight = encode_classes(
            y, weight, self.class_weight, self.class_prior
        )
        Y = encode_labels(codes, len(self.classes_))
        self._set_attributions(X, self.classes_, self.class_descriptions)
        X_unlabeled = self._check_unlabeled(X_unlabeled)
        Z, location, scale = self._scale(X, weight, X_unlabeled)

        def agreement(direction, rows):
            return mean_auc(Y[rows], Z[rows] @ direction.T, weight[rows])

        linear, believed = None, np.ones(len(y), dtype=bool)
        if self.gamma == "auto":

            def hole(eta, scan):
                by_class = Y if Y.shape[1] > 1 else np.hstack([1 - Y, Y])
                return find_hole(X, by_class, self._proba(eta), weight, scan)

            linear = self._fit_auto(X, Z, Y, weight, laplace_solver, hole, agreement)
            believed = self.outside_holes(X)
        self._describe_holes(X, self.classes_)
        if len(np.unique(codes[believed])) < len(self.classes_):
            believed[:] = True
        self.agreement_ = self._measure(agreement, believed)
        if linear is not None:
            # The standard deviation of an AUC by chance, with classes of equal size.
            margin = 2 / np.sqrt(3 * weight[believed].sum())
            self._warn_of_conflict(linear[0], agreement, believed, "an AUC", margin)
        elif not has_network(self):
            linear = self._fit_fixed(Z, Y, weight, LOG_LOSS)
        offset = prior_shift(self.class_prior, self.classes_, Y[believed], weight[believed])
        self.coef_ = self.intercept_ = None
        if linear is not None:
            self.coef_ = linear[0] / scale
            self.intercept_ = linear[1] - self.coef_ @ location + offset
        rows = (Z[believed], Y[believed], weight[believed])
        self._fit_network(*rows, X_unlabeled, location, "log_loss", linear)
        self._offset = offset
        self._warn_if_overconfident(X, weight)
        return self

    def _warn_if_overconfident(self, X, weight):
        """Warn if few rows and a numeric gamma lead to logits that few rows cannot know."""
        if not self._is_fixed_by_few(weight):
            return
        eta = self._outputs(X)
        mean = weight @ eta / weight.sum()
        spread = np.sqrt(np.max(weight @ (eta - mean) ** 2) / weight.sum())
        if spread > STEEP:
            warn(
                f"{weight.sum():g} rows do not tell how steep the probabilities are, and with a "
                f"numeric gamma only alpha bounds them: the logits' standard deviation is "
                f"{spread:.1f}, and predictions will be too sure. The ranking is not affected. "
                'Use gamma="auto", a larger alpha, or calibrate on other rows.',
                OverconfidentWarning,
            )

    @staticmethod
    def _proba(eta):
        if eta.shape[1] > 1:
            return softmax(eta, axis=1)
        return np.hstack([expit(-eta), expit(eta)])

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
        eta = self._outputs(X)
        if self.network_ is not None:
            eta = eta + self._offset  # it is in the linear model's intercept
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
        return self._proba(eta if eta.ndim == 2 else eta[:, None])

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
