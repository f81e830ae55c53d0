"""Run the leading stateless steps of a pipeline once for each distinct text."""

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, get_tags

from skllmreg.utils._validation import is_text


class StatelessSteps:
    """Leading steps of a student that learn nothing, and what is left of it to fit in rounds.

    A step is stateless where its tags say so (``requires_fit`` is False): ``HashingVectorizer``,
    ``FunctionTransformer``, :class:`SentenceEncoder`. Only where X holds texts are they taken off:
    that is where they cost time.

    Parameters
    ----------
    estimator : classifier
    X : array-like of shape (n_samples, ...)

    Attributes
    ----------
    estimator : classifier
        A pipeline of the other steps; the estimator itself where no step was taken off.
    X : array-like of shape (n_samples, ...)
        What these steps take.
    """

    def __init__(self, estimator, X):
        self.estimator, self.X = estimator, X
        self._steps = []
        if not isinstance(estimator, Pipeline) or not is_text(X):
            return
        if getattr(estimator, "transform_input", None):
            return
        steps = list(estimator.steps)
        while len(steps) > 1 and _is_stateless(steps[0][1]):
            self._steps.append(steps.pop(0))
        if not self._steps:
            return
        first = clone(Pipeline(self._steps))
        position: dict[str, int] = {}
        rows = [position.setdefault(text, len(position)) for text in X]
        found = first.fit_transform(np.array(list(position), dtype=object))
        self._steps = first.steps
        self.X = found if len(position) == len(X) else _safe_indexing(found, rows)
        self.estimator = clone(estimator).set_params(steps=steps)

    def join(self, fitted):
        """Put the steps back in front of what was fitted after them."""
        if not self._steps or fitted is None:
            return fitted
        return fitted.set_params(steps=[*self._steps, *fitted.steps])


def _is_stateless(step):
    if step is None or isinstance(step, str):  # passthrough
        return True
    return hasattr(step, "transform") and not get_tags(step).requires_fit
