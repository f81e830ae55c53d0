"""Let clones of an estimator share its models, encoders and generators."""

import copy

from sklearn.base import BaseEstimator


class SharedByClones(BaseEstimator):
    """Estimator whose clones hold some parameters by reference.

    `clone` copies parameters that are not estimators. A copy of a model has weights of its own and
    breaks on a lock inside, a copy of a fake keeps its history to itself.
    """

    _shared_by_clones: tuple[str, ...] = ()

    def __sklearn_clone__(self):
        shared = {name: getattr(self, name) for name in self._shared_by_clones}
        shared = {k: v for k, v in shared.items() if not hasattr(v, "get_params")}
        without = copy.copy(self)
        for name in shared:
            setattr(without, name, None)
        cloned = BaseEstimator.__sklearn_clone__(without)
        for name, value in shared.items():
            setattr(cloned, name, value)
        return cloned
