r"""Average fits over priors, weighted by evidence: how far the data support the scores.

A *candidate* is a Gaussian prior on the coefficients of scaled features,

.. math:: W = a T + V, \quad a \sim N(\mu, (3\mu/8)^2), \quad
          V_{kj} \sim N(0, \tau^2 D_j + \delta_{j})

with the direction T of the transformed scores, made so that the score T x has unit spread over
the rows; a slope `a` that is positive by almost three standard deviations, without which one row
per class could flip the sign; and deviations V that are larger for features the LLM finds relevant
(D_j grows with T_j^2, mean 1) and for those its estimates disagree on (delta_j, the variance of T_j
over the estimates). Small tau means "trust the LLM". The candidates are a grid of tau for each of
several score transforms, with a moderate slope and a steep one, and a grid without the scores
(T = 0): the plain ridge, which is what remains if the scores turn out to be wrong.

Each candidate is fitted to its posterior mode and weighted by its Laplace evidence times a prior
weight (log-normal in tau); the model is the weighted mean of the fits. This is Bayesian model
averaging [1]_ with the evidence of MacKay [2]_.

The constants were chosen on seven data sets, by splits other than those that show the results;
``benchmarks/attribution_prior.py`` judges them with each data set left out in turn.

References
----------
.. [1] Hoeting, Madigan, Raftery, Volinsky (1999), "Bayesian model averaging: a tutorial",
   Statistical Science 14, equations 1-3.
.. [2] MacKay (1992), "The evidence framework applied to classification networks", Neural
   Computation 4, equation 4.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from scipy.special import logsumexp, softmax

from skllmreg.attribution._scores import target_direction

SLOPES = ((2.4, 0.1), (0.8, 0.9))  # means with prior weights: easy tasks, and most
SLOPE_SD = 3 / 8  # relative to the mean
TAUS = np.geomspace(0.01, 1, 8)
TAU_MEDIAN, LOG_TAU_SD = 0.05, 1.0
PLAIN_FACTOR = 4.0  # the plain ridge has these times the taus: nothing else carries its signal
PLAIN_WEIGHT = 0.05  # prior weight of "the scores are worthless"
BASE_VARIANCE = 0.2  # share of the deviation's variance that does not depend on relevance
PSEUDO_ROWS = 10  # weight of "features are uncorrelated" when the spread of T x is estimated
BOUND_TAU = 0.04  # up to which a candidate is bound to the scores
NEGLIGIBLE = 1e-5  # share of the total weight below which a candidate is dropped


@dataclass(frozen=True)
class Prior:
    """One candidate's prior on the coefficients (n_outputs, n_features) of scaled features."""

    transform: str  # candidates of one transform share target and variances
    tau: float
    target: np.ndarray  # of the size that the slope refers to
    slope_mean: float
    slope_sd: float
    base_variance: np.ndarray  # (n_features,), of a deviation where tau is 1
    extra_variance: np.ndarray  # (n_features,), which tau leaves alone
    log_weight: float

    def variance(self):
        """Variances of the deviations, (n_features,)."""
        return self.tau**2 * self.base_variance + self.extra_variance


def candidate_priors(X, sample_weight, n_outputs, estimates, transforms, slopes=SLOPES):
    """Make the grid of priors; see the head of this file.

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n_samples, n_features)
        Scaled features.
    sample_weight : ndarray of shape (n_samples,)
    n_outputs : int
    estimates : ndarray of shape (n_estimates, n_outputs, n_features) or None
        The LLM's scores; None leaves the plain ridge alone.
    transforms : dict of str to (callable, float)
        Score transforms with their prior weights.
    slopes : tuple of (float, float)
        Prior means of the slope, with prior weights.

    Returns
    -------
    list of Prior
        By transform, slope and tau; tau grows fastest.
    """
    n_features, total = X.shape[1], sample_weight.sum()
    # A new row is farther out than the rows that made the scale: the factor between the standard
    # deviation of `total` rows and the predictive one.
    shrink = np.sqrt(max(total - 1, 0.5) / (total + 1))
    # With an output per class, what counts is the difference of two of them.
    deviation = shrink / np.sqrt(min(n_outputs, 2))
    profile = [(tau, -0.5 * (np.log(tau / TAU_MEDIAN) / LOG_TAU_SD) ** 2) for tau in TAUS]
    priors = []
    useful = estimates is not None and np.any(estimates)
    for name, (transform, weight) in transforms.items() if useful else ():
        target = target_direction(estimates.mean(axis=0), transform)
        each = np.stack([target_direction(scores, transform) for scores in estimates])
        size = _score_spread(np.asarray(X @ target.T), sample_weight)
        relevance = n_features * np.sum(target**2, axis=0)
        base = BASE_VARIANCE + (1 - BASE_VARIANCE) * relevance
        disagreement = each.var(axis=0).sum(axis=0) / size**2
        priors += [
            Prior(
                transform=name,
                tau=tau,
                target=target / size,
                slope_mean=shrink * slope,
                slope_sd=shrink * slope * SLOPE_SD,
                base_variance=deviation**2 * base,
                extra_variance=deviation**2 * disagreement,
                log_weight=log_weight + np.log((1 - PLAIN_WEIGHT) * weight * slope_weight),
            )
            for slope, slope_weight in slopes
            for tau, log_weight in profile
        ]
    priors += [
        Prior(
            transform="none",
            tau=PLAIN_FACTOR * tau,
            target=np.zeros((n_outputs, n_features)),
            slope_mean=0.0,
            slope_sd=0.0,
            base_variance=np.full(n_features, deviation**2),
            extra_variance=np.zeros(n_features),
            log_weight=log_weight + np.log(PLAIN_WEIGHT),
        )
        for tau, log_weight in profile
    ]
    return priors


def _score_spread(scores, sample_weight):
    """Spread of the scores T x over the rows, drawn to that of uncorrelated features.

    Several outputs count by the mean square of the differences between two of them.
    """
    n_outputs, total = scores.shape[1], sample_weight.sum()
    pairs = 1 if n_outputs == 1 else 2 * n_outputs / (n_outputs - 1)
    centered = scores - sample_weight @ scores / total
    observed = np.mean(sample_weight @ centered**2) / total
    uncorrelated = 1 / n_outputs  # |T| = 1
    return np.sqrt(pairs * (total * observed + PSEUDO_ROWS * uncorrelated) / (total + PSEUDO_ROWS))


def fit_candidates(priors, fit):
    """Fit the candidates that can have a share in the average.

    Along tau the evidence rises to one peak and falls. So in each grid the fits go up and down
    from the peak of the grid before, each starting at its neighbor, until a candidate is both
    negligible and less likely than the one before.

    Parameters
    ----------
    priors : list of Prior
        As `candidate_priors` returns them.
    fit : callable
        ``fit(prior, start)`` returns a fit with the attribute ``log_evidence``; `start` is the fit
        of a similar prior, or None.

    Returns
    -------
    kept : list of Prior
    fits : list of fits
    """
    found: dict[int, Any] = {}
    weights: dict[int, float] = {}
    start = None
    peak = int(np.abs(np.log(TAUS / TAU_MEDIAN)).argmin())
    grids = [list(grid) for _, grid in groupby(range(len(priors)), lambda i: _grid_of(priors[i]))]
    for before, grid in zip([None, *grids], grids, strict=False):
        if before and _is_negligible(priors, grid, before, weights):
            continue
        for way in (grid[peak:], grid[peak::-1]):
            last = -np.inf
            for i in way:
                if i not in found:
                    found[i] = fit(priors[i], start)
                    weights[i] = priors[i].log_weight + found[i].log_evidence
                start = found[i]
                if weights[i] < min(last, max(weights.values()) + np.log(NEGLIGIBLE)):
                    break
                last = weights[i]
        peak = max(range(len(grid)), key=lambda k: weights.get(grid[k], -np.inf))
        start = found[grid[peak]]
    kept = sorted(found)
    return [priors[i] for i in kept], [found[i] for i in kept]


def _grid_of(prior):
    return prior.transform, prior.slope_mean


def _is_negligible(priors, grid, before, weights):
    """Whether the grid before, which differs by the slope's prior alone, rules this one out.

    An integral over the slope grows at most by the largest ratio of the two densities.
    """
    one, other = priors[grid[0]], priors[before[0]]
    if one.transform != other.transform or not one.slope_sd < other.slope_sd:
        return False
    ratio = np.log(other.slope_sd / one.slope_sd)
    ratio += (one.slope_mean - other.slope_mean) ** 2 / 2 / (other.slope_sd**2 - one.slope_sd**2)
    most = max(weights.get(i, -np.inf) for i in before)
    most += ratio + one.log_weight - other.log_weight
    return most < max(weights.values()) + np.log(NEGLIGIBLE)


def model_average(priors, posteriors):
    """Weights of the candidates, and the mean of their coefficients and intercepts."""
    weights = softmax(
        [prior.log_weight + fit.log_evidence for prior, fit in zip(priors, posteriors, strict=True)]
    )
    coef = np.einsum("c,ckj->kj", weights, [fit.coef for fit in posteriors])
    intercept = weights @ [fit.intercept for fit in posteriors]
    return weights, coef, intercept


@dataclass(frozen=True)
class Average:
    """The average over the candidates, and what explains it."""

    priors: list[Prior]
    fits: list
    weights: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray

    @property
    def log_evidence(self):
        """Log-evidence of all candidates together."""
        return logsumexp(
            [p.log_weight + fit.log_evidence for p, fit in zip(self.priors, self.fits, strict=True)]
        )

    @property
    def bound(self):
        """Coefficients and intercept of the candidates that are bound to the scores, or None."""
        low = [
            i
            for i, prior in enumerate(self.priors)
            if prior.tau <= BOUND_TAU and prior.transform != "none"
        ]
        if not low:
            return None
        return model_average([self.priors[i] for i in low], [self.fits[i] for i in low])[1:]

    @property
    def prior_weight(self):
        """Weight of the candidates that use the scores."""
        return float(sum(self.weights[[p.transform != "none" for p in self.priors]]))

    @property
    def pull(self):
        """The gamma that would pull as hard, times the number of rows.

        Near its prior's direction, a candidate's penalty |V|^2 / (2 n tau^2) is
        gamma (1 - cos) with the gamma slope^2 |T|^2 / (n tau^2).
        """
        pulls = [
            fit.slope**2 * np.vdot(prior.target, prior.target) / prior.tau**2
            for prior, fit in zip(self.priors, self.fits, strict=True)
        ]
        return float(self.weights @ pulls)

    @property
    def n_iter(self):
        return max(fit.n_iter for fit in self.fits)

    @property
    def converged(self):
        return all(fit.converged for fit in self.fits)

    def table(self):
        """The candidates, column by column."""
        return {
            "transform": np.array([prior.transform for prior in self.priors]),
            "tau": np.array([prior.tau for prior in self.priors]),
            "slope": np.array([fit.slope for fit in self.fits]),
            "log_evidence": np.array([fit.log_evidence for fit in self.fits]),
            "weight": self.weights,
        }


def fit_average(priors, solver):
    """Fit the candidates that count, and average over them.

    Parameters
    ----------
    priors : list of Prior
    solver : object with ``fit(prior, start)``

    Returns
    -------
    Average
    """
    kept, fits = fit_candidates(priors, solver.fit)
    return Average(kept, fits, *model_average(kept, fits))
