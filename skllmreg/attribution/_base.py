"""What the attribution-regularized classifier and regressor share."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions

from skllmreg.attribution._aligned import MIN_LENGTH, fit_aligned
from skllmreg.attribution._elicit import elicit_attributions
from skllmreg.attribution._evidence import (
    PLAIN_WEIGHT,
    candidate_priors,
    fit_candidates,
    model_average,
)
from skllmreg.attribution._features import column_names
from skllmreg.attribution._network import fit_network, has_network, network_outputs
from skllmreg.attribution._numbers import validate_numbers
from skllmreg.attribution._scaling import feature_scaling, scaled
from skllmreg.attribution._scores import (
    AVERAGED_TRANSFORMS,
    SCORE_TRANSFORMS,
    parse_attributions,
    target_direction,
)
from skllmreg.exceptions import NoLLMWarning, PriorConflictWarning, UnscaledFeaturesWarning
from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._warn import warn

MOST_UNEQUAL = 1e3  # spread of a column by that of another, as it may be without a scaler
MOST_ROWS = 1e12  # by weight: beyond, the priors drown in rounding


class AttributionModel(DocLinkMixin, BaseEstimator):
    """Where the scores come from, how features are scaled, and the two ways to a linear model.

    A subclass has a constructor with the parameters below, validates X and y, and knows the loss.
    """

    _parameter_constraints: dict = {
        "task": [str, None],
        "feature_descriptions": [dict, list, None],
        "gamma": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "score_transform": [StrOptions({"auto", *SCORE_TRANSFORMS}), callable],
        "n_estimates": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "standardize": ["boolean"],
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

    def _measure(self, agreement):
        """Agreement of the labels with the scores alone; NaN without scores."""
        return np.nan if self.attributions_ is None else agreement(self._target())

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

    def _fit_auto(self, X, Y, sample_weight, solver, **prior_options):
        """Average over the candidate priors; set what explains the trust in the scores."""
        if not sample_weight.sum() <= MOST_ROWS:
            raise ValueError(
                f"The weights of the rows sum to {sample_weight.sum():.3g}. With gamma='auto' that "
                f"is their number, which may be up to {MOST_ROWS:.0e}: divide the weights."
            )
        if self.score_transform == "auto":
            transforms = AVERAGED_TRANSFORMS
        else:
            transforms = {str(self.score_transform): (self._transform_one(), 1.0)}
        priors = candidate_priors(
            X, sample_weight, Y.shape[1], self.attribution_estimates_, transforms, **prior_options
        )
        priors, fits = fit_candidates(priors, solver.fit)
        if not all(fit.converged for fit in fits):
            warn(
                "Some candidate priors could not be fitted to the end: are there sample weights "
                f"that differ by orders of magnitude ({sample_weight.min():.3g} to "
                f"{sample_weight.max():.3g})?",
                ConvergenceWarning,
            )
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
        self.gamma_ = float(weights @ pulls / sample_weight.sum())
        self.n_iter_ = max(fit.n_iter for fit in fits)
        self.prior_weight_ = float(weights[self.candidates_["transform"] != "none"].sum())
        return coef, intercept

    def _warn_of_conflict(self, coef, agreement, measure, chance, margin):
        """Warn if the labels want the scores turned round, or say that they are good for nothing.

        `agreement` measures how well a direction such as `coef` ranks the training rows; by
        `chance` it has that value, give or take that `margin`.
        """
        if self.attributions_ is None or not np.any(self.attributions_):
            return
        before = (1 - PLAIN_WEIGHT) / PLAIN_WEIGHT
        odds = self.prior_weight_ / max(1 - self.prior_weight_, 1e-300)
        against = self.agreement_ < chance - margin
        if not against and odds < before / 3:
            # The labels do without the scores: because they know better, or because these are off?
            target = self._target()
            rng = np.random.default_rng(0)
            shuffled = [agreement(rng.permutation(target, axis=1)) for _ in range(100)]
            best = agreement(coef) - chance
            needed = max(0.5 * best, np.quantile(shuffled, 0.9) - chance)
            # Scores that rank almost as well as the model contradict nothing.
            against = self.agreement_ - chance < min(needed, 0.9 * best)
        if against:
            warn(
                "The labels contradict the attribution scores: on the training rows, these alone "
                f"have {measure} of {self.agreement_:.2f}, and the odds that they help went from "
                f"{before:.0f} to {odds:.2g}. The model follows the labels; check what the scores "
                "speak for, and how the features are coded.",
                PriorConflictWarning,
            )

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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
