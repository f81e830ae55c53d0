"""What the attribution-regularized classifier and regressor share."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions

from skllmreg.attribution._aligned import MIN_LENGTH, fit_aligned
from skllmreg.attribution._elicit import elicit_attributions
from skllmreg.attribution._evidence import (
    PLAIN_WEIGHT,
    candidate_priors,
    fit_average,
)
from skllmreg.attribution._features import column_names
from skllmreg.attribution._label_holes import MAX_HOLES, make_scans, with_indicators
from skllmreg.attribution._network import fit_network, has_network, network_outputs
from skllmreg.attribution._numbers import validate_numbers
from skllmreg.attribution._scaling import feature_scaling, scaled
from skllmreg.attribution._scores import (
    SCORE_TRANSFORMS,
    averaged_transforms,
    parse_attributions,
    target_direction,
)
from skllmreg.exceptions import (
    FewRowsForScaleWarning,
    LabelHoleWarning,
    NoLLMWarning,
    PriorConflictWarning,
    UnscaledFeaturesWarning,
)
from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._warn import warn

MOST_UNEQUAL = 1e3  # spread of a column by that of another, as it may be without a scaler
MIN_ROWS_FOR_SCALE = 6
MIN_PRIOR_WEIGHT = 0.9  # of the scores, for a label hole to be believed
MIN_AGREEMENT = 0.3  # of the other labels with the scores, from chance (0) to perfect (1); the same
FEW_ROWS = 50  # that do not tell how far the outputs of a numeric gamma should spread
MOST_ROWS = 1e12  # by weight: beyond, the priors drown in rounding


class AttributionModel(DocLinkMixin, BaseEstimator):
    """Where the scores come from, how features are scaled, and the two ways to a linear model.

    A subclass has a constructor with the parameters below, validates X and y, and knows the loss.
    """

    _CHANCE: float  # agreement with the labels of scores that say nothing

    _parameter_constraints: dict = {
        "task": [str, None],
        "feature_descriptions": [dict, list, None],
        "gamma": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "score_transform": [StrOptions({"auto", *SCORE_TRANSFORMS}), callable],
        "n_estimates": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "standardize": ["boolean"],
        "label_holes": [StrOptions({"auto"}), list, None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "module": [callable, None],
        "alignment": [StrOptions({"gradient", "input_x_gradient", "integrated_gradients"})],
        "per_sample": ["boolean"],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "device": [str],
        "random_state": ["random_state"],
    }

    def _set_attributions(self, X, classes=None, class_descriptions=None):
        """Set ``attribution_estimates_`` and ``attributions_``: None without LLM and scores."""
        self.attribution_estimates_ = self.attributions_ = self.elicited_attributions_ = None
        self._holes = []
        attributions = self.attributions
        names = getattr(self, "feature_names_in_", None)
        if attributions is None and self.llm is not None:
            names = column_names(names, self.n_features_in_, self.feature_descriptions)
            attributions = self.elicited_attributions_ = elicit_attributions(
                self.llm,
                task=self.task,
                feature_names=names,
                feature_descriptions=self.feature_descriptions,
                classes=classes,
                class_descriptions=class_descriptions,
                n_estimates=self.n_estimates,
            )
        if attributions is None:
            if self.gamma != 0:
                warn(
                    "Neither `llm` nor `attributions` is given: this is a plain ridge model.",
                    NoLLMWarning,
                )
            return
        self.attribution_estimates_ = parse_attributions(
            attributions, names, self.n_features_in_, classes, X
        )
        self.attributions_ = self.attribution_estimates_.mean(axis=0)

    def _scale(self, X, sample_weight, X_unlabeled):
        """Scale the features by what is known of them; return them with location and scale."""
        self.scale_ = np.ones(X.shape[1])
        if not self.standardize:
            self._warn_of_unequal_spread(feature_scaling(X, sample_weight)[1])
            return X, np.zeros(X.shape[1]), self.scale_
        rows, weight = X, sample_weight
        if X_unlabeled is not None:
            rows, weight = X_unlabeled, np.ones(X_unlabeled.shape[0])
        location, self.scale_ = feature_scaling(rows, weight)
        known = self.scale_[np.isfinite(self.scale_)]
        guessed = rows is X and len(known) > 0 and np.abs(np.log(known)).mean() > 0.2
        if guessed and X.shape[0] < MIN_ROWS_FOR_SCALE and self.attributions_ is not None:
            warn(
                f"The scale of the features comes from {X.shape[0]} rows, which is a guess, and "
                "scores are about scaled features. Rows without labels make it sure: "
                "fit(X, y, X_unlabeled=...), or standardize the features by all rows there are.",
                FewRowsForScaleWarning,
            )
        return scaled(X, location, self.scale_), location, self.scale_

    def _warn_of_unequal_spread(self, scale):
        """Warn where a scaler seems to be missing."""
        names = getattr(self, "feature_names_in_", np.arange(len(scale)))[np.isfinite(scale)]
        scale = scale[np.isfinite(scale)]
        if not scale.size or scale.max() <= MOST_UNEQUAL * scale.min():
            return
        low, high = names[[scale.argmin(), scale.argmax()]].tolist()
        warn(
            "With standardize=False X is taken as it is, but the spread of column "
            f"{high!r} is {scale.max() / scale.min():.0e} times that of {low!r}. Scores are about "
            "features of comparable spread: put a scaler in front, or leave standardize=True.",
            UnscaledFeaturesWarning,
        )

    def _column_names(self):
        """Names of the columns; their numbers where X has none and nobody has set `_names`."""
        names = getattr(self, "_names", None)
        if names is None:
            names = getattr(self, "feature_names_in_", np.arange(self.n_features_in_)).tolist()
        return names

    def _fit_network(self, X, Y, sample_weight, X_unlabeled, location, loss, linear):
        """Set `network_`: on top of the linear model, if there is one; None if this is all."""
        self.network_ = None
        if not has_network(self):
            return
        if X_unlabeled is not None:
            X_unlabeled = scaled(X_unlabeled, location, self.scale_)
        self.network_, self.gamma_, self.n_iter_ = fit_network(
            self,
            X,
            Y,
            sample_weight,
            X_unlabeled,
            loss=loss,
            target=self._target(Y.shape[1]),
            linear=linear,
        )
        self._location = location

    def _outputs(self, X):
        """Outputs of the fitted model, (n_samples, n_outputs)."""
        X = validate_numbers(self, X, reset=False)
        if self.network_ is not None:
            return network_outputs(self.network_, X, self._location, self.scale_)
        return np.asarray(X @ np.atleast_2d(self.coef_).T) + self.intercept_

    def _check_unlabeled(self, X_unlabeled):
        if X_unlabeled is None:
            return None
        return validate_numbers(self, X_unlabeled, reset=False)

    def _measure(self, agreement, rows):
        """Agreement of the rows' labels with the scores alone; NaN without scores."""
        return np.nan if self.attributions_ is None else agreement(self._target(), rows)

    def _target(self, n_outputs=1):
        """Direction of the scores, of length 1; zero without scores."""
        if self.attributions_ is None:
            return np.zeros((n_outputs, self.n_features_in_))
        return target_direction(self.attributions_, self._transform_one())

    def _transform_one(self):
        """The score transform to use where it has to be a single one."""
        if callable(self.score_transform):
            return self.score_transform
        return SCORE_TRANSFORMS["expm1" if self.score_transform == "auto" else self.score_transform]

    def _fit_auto(self, X, Z, Y, sample_weight, make_solver, find_hole, agreement, **prior_options):
        """Average over the candidate priors; set what explains the trust in the scores.

        Parameters
        ----------
        X, Z : {ndarray, sparse matrix} of shape (n_samples, n_features)
            Features, and scaled features.
        Y : ndarray of shape (n_samples, n_outputs)
        sample_weight : ndarray of shape (n_samples,)
        make_solver : callable
            ``make_solver(Z, Y, sample_weight)`` fits candidates.
        find_hole : callable
            ``find_hole(expected, scan)`` finds a group of rows that a label hole may be behind,
            given the predictions of a model that is bound to the scores.
        agreement : callable
            ``agreement(direction, rows)`` measures how well a direction ranks these rows.
        **prior_options
            Of `candidate_priors`.

        Returns
        -------
        coef : ndarray of shape (n_outputs, n_features)
        intercept : ndarray of shape (n_outputs,)
        """
        if not sample_weight.sum() <= MOST_ROWS:
            raise ValueError(
                f"The weights of the rows sum to {sample_weight.sum():.3g}. With gamma='auto' that "
                f"is their number, which may be up to {MOST_ROWS:.0e}: divide the weights."
            )
        if self.score_transform == "auto":
            transforms = averaged_transforms(sample_weight.sum(), X.shape[1])
        else:
            transforms = {str(self.score_transform): (self._transform_one(), 1.0)}
        priors = candidate_priors(
            Z, sample_weight, Y.shape[1], self.attribution_estimates_, transforms, **prior_options
        )

        def fit(features):
            extended = with_indicators(priors, features.shape[1] - Z.shape[1])
            return fit_average(extended, make_solver(features, Y, sample_weight))

        average = self._explain_holes(X, Z, fit, find_hole, agreement)
        if not average.converged:
            warn(
                "Some candidate priors could not be fitted to the end: are there sample weights "
                f"that differ by orders of magnitude ({sample_weight.min():.3g} to "
                f"{sample_weight.max():.3g})?",
                ConvergenceWarning,
            )
        self.candidates_ = average.table()
        self.gamma_ = average.pull / sample_weight.sum()
        self.n_iter_ = average.n_iter
        self.prior_weight_ = average.prior_weight
        return average.coef[:, : X.shape[1]], average.intercept

    def _explain_holes(self, X, Z, fit, find_hole, agreement):
        """Set `_holes`; return the average of ``fit(Z)`` with a column beside Z for each of them.

        The parameters are those of `_fit_auto`.
        """
        average, with_groups = fit(Z), Z
        names = self._column_names()
        scans = make_scans(self.label_holes, names) if average.bound is not None else []
        while scans and len(self._holes) < MAX_HOLES:
            coef, intercept = average.bound
            hole = find_hole(np.asarray(with_groups @ coef.T) + intercept, scans[0])
            if hole is not None:
                trial = _beside(with_groups, hole.rows(X)[:, None].astype(float))
                explained = fit(trial)
                if self.label_holes != "auto" or self._is_plausible(
                    hole, X, average, explained, agreement
                ):
                    average, with_groups = explained, trial
                    self._holes.append(hole)
                else:
                    hole = None
            if hole is None or self.label_holes != "auto":
                scans = scans[1:]
        return average

    def _is_plausible(self, hole, X, average, explained, agreement):
        """Whether labels are missing, rather than the scores wrong: the other rows tell.

        Nothing follows for a group from scores that the rest of the labels deny, or that hardly
        rank the rest: with a few hundred rows, evidence for such scores may be chance.
        """
        outside = self.outside_holes(X) & ~hole.rows(X)
        above_chance = agreement(self._target(), outside) - self._CHANCE
        return (
            explained.prior_weight > MIN_PRIOR_WEIGHT
            and explained.log_evidence > average.log_evidence
            and above_chance > MIN_AGREEMENT * (1 - self._CHANCE)
        )

    def outside_holes(self, X):
        """Rows of X whose labels are taken at their word, (n_samples,)."""
        outside = np.ones(X.shape[0], dtype=bool)
        for hole in self._holes:
            outside &= ~hole.rows(X)
        return outside

    def _describe_holes(self, X, classes=None):
        """Set `label_holes_`, and warn of each."""
        names = self._column_names()
        self.label_holes_ = []
        for hole in self._holes:
            name = names[hole.column]
            name = name if isinstance(name, str) else f"X[:, {name}]"
            rule = f"{name} {'>' if hole.above else '<='} {hole.threshold:g}"
            found = {
                "column": names[hole.column],
                "threshold": hole.threshold,
                "side": ">" if hole.above else "<=",
                "n_rows": int(hole.rows(X).sum()),
                "observed": hole.observed,
                "expected": hole.expected,
                "p_value": hole.p_value,
            }
            if classes is None:
                found["missing"] = "large" if hole.output == 0 else "small"
                what = (
                    f"the target is {hole.observed:+.2f} standard deviations off what the scores "
                    f"and the other rows lead to expect: {found['missing']} values seem to be "
                    "missing there"
                )
            else:
                found["class"] = classes[hole.output].item()
                what = (
                    f"{hole.observed:g} are of class {found['class']!r}, where the scores and the "
                    f"other rows lead to expect {hole.expected:.1f}: labels of that class seem to "
                    "be missing there"
                )
            self.label_holes_.append(found)
            warn(
                f"Of the {found['n_rows']} training rows with {rule}, {what}. The model does not "
                "learn from that difference and scores such rows by all other columns. If it is "
                "real, use label_holes=None.",
                LabelHoleWarning,
            )

    def _warn_of_conflict(self, coef, agreement, rows, measure, margin):
        """Warn if the labels want the scores turned round, or say that they are good for nothing.

        Parameters
        ----------
        coef : ndarray of shape (n_outputs, n_features)
            The fitted model.
        agreement : callable
            As in `_fit_auto`; what it returns is `measure` in words.
        rows : ndarray of bool of shape (n_samples,)
            Training rows to measure it on.
        measure : str
        margin : float
            By how much the agreement of scores that say nothing may be off chance.
        """
        if self.attributions_ is None or not np.any(self.attributions_):
            return
        before = (1 - PLAIN_WEIGHT) / PLAIN_WEIGHT
        odds = self.prior_weight_ / max(1 - self.prior_weight_, 1e-300)
        against = self.agreement_ < self._CHANCE - margin
        if not against and odds < before / 3:
            # The labels do without the scores: because they know better, or because these are off?
            target = self._target()
            rng = np.random.default_rng(0)
            shuffled = [agreement(rng.permutation(target, axis=1), rows) for _ in range(100)]
            best = agreement(coef, rows) - self._CHANCE
            needed = max(0.5 * best, np.quantile(shuffled, 0.9) - self._CHANCE)
            # Scores that rank almost as well as the model contradict nothing.
            against = self.agreement_ - self._CHANCE < min(needed, 0.9 * best)
        if against:
            warn(
                "The labels contradict the attribution scores: on the training rows, these alone "
                f"have {measure} of {self.agreement_:.2f}, and the odds that they help went from "
                f"{before:.0f} to {odds:.2g}. {self._conflicts(coef)}The model follows the labels; "
                "check what the scores speak for, and how the features are coded.",
                PriorConflictWarning,
            )

    def _conflicts(self, coef):
        """Name the columns whose coefficients contradict their scores most."""
        names = self._column_names()
        direction = self._target()
        against = np.where(direction * coef < 0, np.abs(direction * coef), 0.0)
        worst = [np.unravel_index(i, against.shape) for i in np.argsort(-against, axis=None)[:3]]
        of_class: Any = getattr(self, "classes_", None)
        scores: Any = self.attributions_
        shown = [
            f"{names[j]!r}"
            + (f" for class {of_class[k].item()!r}" if len(coef) > 1 else "")
            + f" (score {scores[k, j]:+.3g}, scaled coefficient {coef[k, j]:+.2g})"
            for k, j in worst
            if against[k, j] > 0
        ]
        return f"The labels speak against the scores of {', '.join(shown)}. " if shown else ""

    def _fit_fixed(self, X, Y, sample_weight, loss):
        """Minimize the objective with a numeric gamma."""
        target = self._target(Y.shape[1])
        coef, intercept, self.n_iter_, converged = fit_aligned(
            X,
            Y,
            sample_weight,
            target,
            loss,
            gamma=self.gamma,
            alpha=self.alpha,
            max_iter=self.max_iter,
            tol=self.tol,
        )
        self.gamma_ = float(self.gamma)
        if not converged:
            warn(
                f"The solver stopped after {self.n_iter_} iterations; raise max_iter or tol.",
                ConvergenceWarning,
            )
        # What is the same for all rows, scores or labels, contradicts nothing.
        told = np.ptp(np.asarray(X @ target.T), axis=0).any() and np.ptp(Y, axis=0).any()
        if np.linalg.norm(coef) <= MIN_LENGTH * 1.001 and self.gamma > 0 and told:
            warn(
                "The labels contradict the attribution scores, and with this gamma the scores "
                "win: the coefficients keep their direction, with next to no slope. Lower gamma, "
                'or let the labels decide with gamma="auto".',
                PriorConflictWarning,
            )
        return coef, intercept

    def _is_fixed_by_few(self, sample_weight):
        """Whether few rows meet a numeric gamma, which does not bound the size of the outputs."""
        return self.gamma != "auto" and self.gamma > 0 and sample_weight.sum() < FEW_ROWS

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _beside(X, columns):
    """Append columns to dense or sparse X."""
    if sparse.issparse(X):
        return sparse.hstack([X, columns], format="csr")
    return np.hstack([X, columns])
