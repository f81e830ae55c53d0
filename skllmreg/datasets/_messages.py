"""Load messages to a help desk, with the probabilities of a recorded teacher."""

import json
from importlib.resources import files

import numpy as np
from sklearn.utils import Bunch

_DESCR = """\
600 messages to the help desk of an online shop, 100 for each of six classes. All were written by a
large language model for this project; target is what the writer meant. teacher_proba is what such a
model stated in a second reading, with the labels unseen. That reading agrees with the writer on all
600, so as a teacher it is nearly perfect: good for a demonstration, too easy for a claim."""


def load_helpdesk():
    """Load messages to a help desk, and a language model's probabilities of their classes.

    They take the place of a live teacher in examples: no key and no network are needed.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        data : list of str
            600 messages.
        target : ndarray of str of shape (600,)
            What their writer meant.
        teacher_proba : ndarray of shape (600, 6)
            Columns in the order of `target_names`.
        target_names : list of str
            The six classes, sorted.
        DESCR : str
            Where the texts and probabilities come from, and what they can show.

    Examples
    --------
    >>> from skllmreg.datasets import load_helpdesk
    >>> helpdesk = load_helpdesk()
    >>> len(helpdesk.data), helpdesk.target_names[:3]
    (600, ['account', 'billing', 'delivery'])
    """
    path = files("skllmreg.datasets") / "data" / "helpdesk.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    target = np.array([row["label"] for row in rows])
    names = np.unique(target).tolist()
    proba = np.array([[row["teacher"].get(name, 0.0) for name in names] for row in rows])
    return Bunch(
        data=[row["text"] for row in rows],
        target=target,
        teacher_proba=proba / proba.sum(axis=1, keepdims=True),
        target_names=names,
        DESCR=_DESCR,
    )
