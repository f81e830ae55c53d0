"""Recorded scores of a large language model for data sets that scikit-learn ships."""

import json
from importlib.resources import files

from sklearn.utils import Bunch

_NAMES = ("breast_cancer", "diabetes", "iris", "wine")


def load_attributions(name):
    """Load a language model's recorded scores for one of scikit-learn's data sets.

    They take the place of a live LLM in examples, tests and benchmarks: no key and no network
    are needed. ``DESCR`` says how they came about; the data sets are public, so the LLM may have
    read about them.

    Parameters
    ----------
    name : {"breast_cancer", "diabetes", "iris", "wine"}
        The data set, as in ``sklearn.datasets.load_<name>``.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        attributions : dict or list
            What an estimator takes as ``attributions=``, five estimates per class:
            ``{target: [{feature: score}, ...]}`` for classification, ``[{feature: score}, ...]``
            for regression (diabetes). Feature names and targets are those of
            ``sklearn.datasets.load_<name>(as_frame=True)``. For breast_cancer only target 0,
            *malignant*, is scored.
        task : str
            The task as it was put to the LLM.
        scale : tuple of int
            The smallest and largest score that could be given.
        class_names : list of str or None
            Names of the targets 0, 1, ...; None for regression.
        DESCR : str
            Where the scores come from and what they can show.

    Raises
    ------
    ValueError
        If no scores are recorded under this name.

    Examples
    --------
    >>> from skllmreg.datasets import load_attributions
    >>> bunch = load_attributions("breast_cancer")
    >>> list(bunch.attributions), len(bunch.attributions[0])
    ([0], 5)
    >>> bunch.attributions[0][0]["worst radius"]
    9
    """
    if name not in _NAMES:
        raise ValueError(f"No attributions are recorded for {name!r}; there are {_NAMES}.")
    path = files("skllmreg.datasets") / "data" / f"{name}.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    attributions = record["attributions"]
    if record["class_names"] is not None:
        target = {class_name: i for i, class_name in enumerate(record["class_names"])}
        attributions = {target[class_name]: est for class_name, est in attributions.items()}
    return Bunch(
        attributions=attributions,
        task=record["task"],
        scale=tuple(record["scale"]),
        class_names=record["class_names"],
        DESCR=record["descr"],
    )
