"""Draw how many rows a cascade's student may answer, and how often it would disagree."""

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted


class CascadeDisplay:
    """Disagreement of a cascade with its teacher, against the share of rows the student answers.

    Use :meth:`from_estimator`; all parameters are stored as attributes.

    Parameters
    ----------
    coverage : ndarray of shape (n_thresholds,)
        Share of the calibration rows that the student answers, for every threshold.
    disagreement : ndarray of shape (n_thresholds,)
        Share of all calibration rows that it answers otherwise than the teacher.
    bound : ndarray of shape (n_thresholds,)
        Upper bound of that share, for each threshold on its own.
    max_disagreement : float, default=None
        Largest share that is allowed.
    chosen : tuple of float, default=None
        Coverage and disagreement at the threshold in use.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skllmreg import CascadeDisplay, LLMCascadeClassifier
    >>> X, truth = load_iris(return_X_y=True)
    >>> proba = 0.8 * np.eye(3)[truth] + 0.2 / 3
    >>> cascade = LLMCascadeClassifier(max_disagreement=0.1, n_calibration=70, random_state=0)
    >>> cascade.fit(X, teacher_proba=proba, classes=[0, 1, 2]).threshold_ > 0
    True
    >>> display = CascadeDisplay.from_estimator(cascade)
    >>> display.ax_.get_xlabel()
    'share of rows that the student answers'
    """

    def __init__(self, *, coverage, disagreement, bound, max_disagreement=None, chosen=None):
        self.coverage = coverage
        self.disagreement = disagreement
        self.bound = bound
        self.max_disagreement = max_disagreement
        self.chosen = chosen

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw a fitted cascade.

        Parameters
        ----------
        estimator : LLMCascadeClassifier
            Fitted with a teacher.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        CascadeDisplay

        Raises
        ------
        ValueError
            If the cascade was fitted without a teacher.
        """
        check_is_fitted(estimator)
        if not len(estimator.calibration_indices_):
            raise ValueError("There is nothing to draw: the cascade was fitted without a teacher.")
        coverage, disagreement, bound = estimator.curve()
        display = cls(
            coverage=coverage,
            disagreement=disagreement,
            bound=bound,
            max_disagreement=estimator.max_disagreement,
            chosen=(estimator.coverage_, estimator.disagreement_),
        )
        return display.plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None

        Returns
        -------
        CascadeDisplay
        """
        check_matplotlib_support("CascadeDisplay")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(5, 4), layout="constrained")
        ax.step(self.coverage, self.disagreement, where="post", label="calibration rows")
        ax.step(self.coverage, self.bound, where="post", color="0.5", lw=1, label="upper bound")
        if self.max_disagreement is not None:
            ax.axhline(self.max_disagreement, ls=":", color="k", lw=1, label="allowed")
            # Far beyond what is allowed the curve is of no use, and hides the rest.
            ax.set_ylim(0, min(1.0, max(4 * self.max_disagreement, 1.2 * np.min(self.bound))))
        if self.chosen is not None:
            ax.plot(*self.chosen, "o", color="tab:red", label="in use")
        ax.set(
            xlabel="share of rows that the student answers",
            ylabel="answered otherwise than by the teacher,\nshare of all rows",
            xlim=(0, 1),
        )
        ax.legend(frameon=False, fontsize="small", loc="upper left")
        self.ax_, self.figure_ = ax, ax.figure
        return self
