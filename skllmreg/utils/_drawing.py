"""Find what to draw in a pipeline or search, and keep legends off the points."""

from sklearn.pipeline import Pipeline


def split_steps(estimator):
    """Split a fitted pipeline or search into the steps before the last, and the last.

    Parameters
    ----------
    estimator : estimator
        A fitted search stands for its best estimator.

    Returns
    -------
    before : list of Pipeline
        What rows pass through; empty where `estimator` is not a pipeline of several steps.
    last : estimator
    """
    before = []
    while True:
        if isinstance(estimator, Pipeline):
            if len(estimator.steps) > 1:
                before.append(estimator[:-1])
            estimator = estimator[-1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return before, estimator


def legend_beside(ax, **options):
    """Put the legend of an axes at its right, where no point is."""
    ax.legend(
        frameon=False,
        fontsize="small",
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        borderaxespad=0.2,
        **options,
    )
