"""Load recorded scores of a large language model for scikit-learn's data sets."""

import json
from importlib.resources import files

from skllmreg.attribution import Attributions

_NAMES = ("breast_cancer", "diabetes", "iris", "wine")


def load_attributions(name):
    """Load a language model's recorded scores for one of scikit-learn's data sets.

    They take the place of a live LLM in examples, tests and benchmarks: no key and no network
    are needed. ``note`` says how they came about; the data sets are public, so the LLM may have
    read about them.

    Parameters
    ----------
    name : {"breast_cancer", "diabetes", "iris", "wine"}
        The data set, as in ``sklearn.datasets.load_<name>``.

    Returns
    -------
    attributions : Attributions
        Five estimates for each class, to be given to an estimator as ``attributions=``. Feature
        names and classes are those of ``sklearn.datasets.load_<name>(as_frame=True)``; diabetes
        is a regression, without classes. For breast_cancer only class 0, *malignant*, is scored.
        ``task`` is the task as it was put to the LLM, ``note`` says where the scores come from.

    Raises
    ------
    ValueError
        If no scores are recorded under this name.

    Examples
    --------
    >>> from skllmreg.datasets import load_attributions
    >>> load_attributions("breast_cancer")
    <Attributions: 30 features × 5 estimates, class 0, by a large language model>
    >>> load_attributions("breast_cancer").scores(0)["worst radius"]
    [9, 9, 10, 10, 9]
    """
    if name not in _NAMES:
        raise ValueError(f"No attributions are recorded for {name!r}; there are {_NAMES}.")
    path = files("skllmreg.datasets") / "data" / f"{name}.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    attributions = record["attributions"]
    if record["class_names"] is not None:
        target = {class_name: i for i, class_name in enumerate(record["class_names"])}
        attributions = {target[class_name]: est for class_name, est in attributions.items()}
    return Attributions(
        attributions,
        task=record["task"],
        model="a large language model",
        note=record["descr"],
    )
