"""One random_state for a whole fit: of students, and of torch."""

import contextlib

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state


def seeded(estimator, random_state):
    """Clone, with a seed wherever a random_state is None.

    So that one random_state makes the whole fit repeatable, as in scikit-learn's ensembles; what
    the user has seeded stays, and so does what is frozen.
    """
    estimator = clone(estimator)
    params = estimator.get_params(deep=True)
    frozen = [f"{name}__" for name, value in params.items() if isinstance(value, FrozenEstimator)]
    rng = check_random_state(random_state)
    unset = {
        name: rng.randint(2**31 - 1)
        for name in sorted(params)
        if (name == "random_state" or name.endswith("__random_state"))
        and params[name] is None
        and not name.startswith(tuple(frozen))
    }
    return estimator.set_params(**unset)


def torch_seeded(random_state, device):
    """Seed torch for the time of a fit; None for no device leaves it alone."""
    if device is None:
        return contextlib.nullcontext()
    from skllmreg.nn._net import seeded as torch_seed

    return torch_seed(check_random_state(random_state).randint(2**31 - 1), device)
