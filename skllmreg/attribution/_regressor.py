"""`LLMAttributionRegularizedRegressor`: models drawn to an LLM's scores of the features."""

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from skllmreg.attribution._agreement import correlation
from skllmreg.attribution._base import AttributionModel
from skllmreg.attribution._label_holes import find_shifted_group
from skllmreg.attribution._leave_one_out import SLOPES, GaussianSolver
from skllmreg.attribution._loss import HALF_SQUARED_ERROR
from skllmreg.attribution._network import dense, has_network, network_outputs
from skllmreg.attribution._numbers import validate_numbers
from skllmreg.attribution._scaling import target_scaling
from skllmreg.exceptions import OverconfidentWarning
from skllmreg.utils._labels import known_target
from skllmreg.utils._warn import warn

MOST_SPREAD = 1.05  # of predictions for new rows, in standard deviations of the target


class LLMAttributionRegularizedRegressor(RegressorMixin, AttributionModel):
    r"""Linear regression whose coefficients are drawn to an LLM's scores of the features.

    The regression of the LAAT idea [1]_, which its authors leave to others: an LLM says how much
    a larger value of each feature raises the target, from -10 to 10, without seeing any row. With
    ``gamma="auto"`` ridge regressions drawn to the scores with many strengths are averaged by
    their leave-one-out error: with few rows the model follows the scores, with many it is a ridge
    regression.

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
    attributions : dict, list of dict, array-like, Attributions or None, default=None
        Scores from -10 to 10 in place of an LLM: ``{feature: score}``, a list of such, or an array
        of shape (n_features,) or (n_estimates, n_features). Names are matched, with or without
        the prefixes of a `ColumnTransformer`; there may be more scores than columns.
    gamma : "auto" or float, default="auto"
        Weight of the alignment. 0 is ridge regression with the strength `alpha`.
    score_transform : {"auto", "identity", "expm1", "exp"} or callable, default="auto"
        How scores become a direction; see :class:`LLMAttributionRegularizedClassifier`.
    n_estimates : int, default=5
        Independent answers of the LLM.
    alpha : float, default=0.01
        Weight of the ridge ``alpha / 2 * norm(coef)**2`` beside half the mean squared error, of a
        network that of all weights but biases; only with a numeric `gamma`.
    standardize : bool, default=True
        Scale features inside; ``coef_`` is in the units of X and y all the same.
    label_holes : "auto", list of column names or None, default="auto"
        Groups of training rows (``column <= value`` or ``> value``) whose targets are far off what
        the scores and the other rows lead to expect, as where only the cheap houses of a district
        were recorded. The model does not learn from that difference, see :ref:`skew`. "auto" looks
        for them in all columns, a list names the columns that have one; None takes all targets at
        their word. Only with ``gamma="auto"`` and scores.
    max_iter : int, default=1000
        Most iterations of the solver with a numeric `gamma`.
    tol : float, default=1e-6
        Largest entry of the objective's gradient at the solution with a numeric `gamma`, and of a
        network without `batch_size`.
    hidden_layer_sizes : int or sequence of int, default=()
        Hidden units (SiLU) of each layer of a network; () is the linear model.
    module : class, callable or torch.nn.Module, default=None
        A network of your own instead, from scaled features to one number. An instance is copied,
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
    coef_ : ndarray of shape (n_features,)
        Of the linear model, to which with ``gamma="auto"`` a network is added; None if a network
        is all there is.
    intercept_ : float
    network_ : skorch net or None
        The fitted network, from scaled features to outputs in ``network_.module_``.
    attributions_ : ndarray of shape (1, n_features)
        Mean scores; None without scores.
    attribution_estimates_ : ndarray of shape (n_estimates, 1, n_features)
        The estimates they are the mean of; None without scores.
    elicited_attributions_ : Attributions
        What `llm` answered, to be read, saved, edited; None if it was not asked.
    scale_ : ndarray of shape (n_features,)
        What the features were divided by: standard deviations, for an indicator half its range;
        infinite for a feature that does not vary, but 2 if it is 0 or 1 throughout: it may be an
        indicator. Ones without `standardize`.
    agreement_ : float
        Correlation of the scores alone with y on the training rows.
    prior_weight_ : float
        With ``gamma="auto"``, the weight of the candidates that use the scores: 0.95 before the
        labels were seen, 0 without scores.
    gamma_ : float
        The weight used; with "auto", the one that would pull as hard as the average of priors, or
        that with which a network is drawn to the linear model.
    label_holes_ : list of dict
        The groups whose targets are off: "column", "threshold", "side" ("<=" or ">"), which values
        are "missing" ("large" or "small"), "n_rows" in the group, the shift of
        their residuals against the others' "observed", in standard deviations, beside the
        "expected" one, 0, and "p_value", that of the
        difference times the number of groups scanned.
    candidates_ : dict of str to ndarray
        With ``gamma="auto"``, the priors averaged over, but for those of next to no weight:
        "transform" of the scores ("none" is the plain ridge), "tau" (deviation allowed from the
        scores), "slope" fitted to them,
        "log_evidence" (leave-one-out log-density) and "weight".
    n_iter_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Warns
    -----
    NoLLMWarning
        If there is neither an `llm` nor `attributions`: ridge regression, its strength found by
        leave-one-out error.
    PriorConflictWarning
        If y contradicts the scores.
    LabelHoleWarning
        If a group of training rows lacks the large or the small targets.
    OverconfidentWarning
        If predictions of a numeric `gamma` vary more than the target does, and rows are few.
    FewRowsForScaleWarning
        If the scale of the features comes from fewer than six rows.

    See Also
    --------
    LLMAttributionRegularizedClassifier : The same for classes.

    Notes
    -----
    The target is scaled to variance 1 inside. The objective with a numeric gamma is half the mean
    squared error + gamma (1 - cos(w, t)) + alpha/2 norm(w)^2 over the coefficients w of scaled
    features, t the transformed scores.

    References
    ----------
    .. [1] Vukadin, Šilić, Delač (2025), "Large Language Models as Attribution Regularizers for
       Efficient Model Training", arXiv:2502.20268.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skllmreg import LLMAttributionRegularizedRegressor
    >>> from skllmreg.datasets import load_attributions
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> scores = load_attributions("diabetes")
    >>> model = LLMAttributionRegularizedRegressor(attributions=scores)
    >>> model.fit(X[:10], y[:10]).score(X[10:], y[10:]) > 0.3
    True
    """

    _CHANCE = 0.0

    def __init__(
        self,
        llm=None,
        *,
        task=None,
        feature_descriptions=None,
        attributions=None,
        gamma="auto",
        score_transform="auto",
        n_estimates=5,
        alpha=0.01,
        standardize=True,
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
        self.attributions = attributions
        self.gamma = gamma
        self.score_transform = score_transform
        self.n_estimates = n_estimates
        self.alpha = alpha
        self.standardize = standardize
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
            Rows without a target, from which the scale of the features is found: better than from
            a handful of labeled ones, above all for columns that are constant in those. In a
            Pipeline: ``Pipeline(..., transform_input=["X_unlabeled"])``. The attributions of a
            network are aligned there too.

        Returns
        -------
        self
        """
        self._validate_params()
        X, y = validate_numbers(self, X, known_target(y), y_numeric=True, ensure_min_samples=2)
        weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        X, y, weight = X[weight > 0], y[weight > 0], weight[weight > 0]
        if len(y) < 2:
            raise ValueError(f"At least two rows of positive weight are needed, got {len(y)}.")
        self._set_attributions(X)
        X_unlabeled = self._check_unlabeled(X_unlabeled)
        Z, location, scale = self._scale(X, weight, X_unlabeled)
        y_mean, y_scale = target_scaling(y, weight)
        target = (y - y_mean) / y_scale if y_scale else np.zeros(len(y))

        Y = target[:, None]

        def agreement(direction, rows):
            return correlation(target[rows], Z[rows] @ direction[0], weight[rows])

        linear, believed = None, np.ones(len(y), dtype=bool)
        if self.gamma == "auto":

            def hole(eta, scan):
                return find_shifted_group(X, target - eta[:, 0], weight, scan)

            linear = self._fit_auto(X, Z, Y, weight, GaussianSolver, hole, agreement, slopes=SLOPES)
            believed = self.outside_holes(X)
        self._describe_holes(X)
        if believed.sum() < 2:
            believed[:] = True
        self.agreement_ = self._measure(agreement, believed)
        if linear is not None:
            margin = 2 / np.sqrt(weight[believed].sum())
            self._warn_of_conflict(linear[0], agreement, believed, "a correlation", margin)
        elif not has_network(self):
            linear = self._fit_fixed(Z, Y, weight, HALF_SQUARED_ERROR)
        self.coef_ = self.intercept_ = None
        if linear is not None:
            self.coef_ = y_scale * linear[0][0] / scale
            self.intercept_ = float(y_mean + y_scale * linear[1][0] - self.coef_ @ location)
        rows = (Z[believed], Y[believed], weight[believed])
        self._fit_network(*rows, X_unlabeled, location, "squared_error", linear)
        self._y_location, self._y_scale = y_mean, y_scale
        self._warn_if_overconfident(Z, weight)
        return self

    def _warn_if_overconfident(self, Z, weight):
        """Warn if few rows and a numeric gamma lead to predictions that vary more than the target.

        On the training rows they cannot; new rows combine the features' values in other ways.
        """
        if not self._is_fixed_by_few(weight) or not self._y_scale:
            return
        if self.network_ is None:  # of uncorrelated features of unit spread
            steps = self.coef_ / self._y_scale  # in units of the target, which may be large
            spread = np.linalg.norm(steps * np.where(steps == 0, 0, self.scale_))
        else:
            shuffled = np.random.default_rng(0).permuted(np.repeat(dense(Z), 10, axis=0), axis=0)
            spread = network_outputs(self.network_, shuffled, 0.0, 1.0).std()
        if spread > MOST_SPREAD:
            warn(
                f"{weight.sum():g} rows do not tell how far predictions should spread, and with a "
                f"numeric gamma only alpha bounds them: those for new rows will vary "
                f"{spread:.1f} times as much as the target does. "
                'Use gamma="auto" or a larger alpha.',
                OverconfidentWarning,
            )

    def predict(self, X):
        """Predict the target.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        outputs = self._outputs(X)[:, 0]
        if self.network_ is not None:
            return self._y_location + self._y_scale * outputs
        return outputs
