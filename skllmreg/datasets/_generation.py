"""Load a recording of a language model that writes messages to a help desk."""

import atexit
import functools
import json
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from skllmreg.datasets._messages import load_helpdesk
from skllmreg.llm import ChatModel, Record
from skllmreg.llm._store import Store

# Of each class the first three in this order are the seeds.
_SEED, _PER_CLASS = 0, 3

_DESCR = """\
18 of the messages of load_helpdesk, three for each class, and the 25 replies of a large language
model to what GOLDAugmenter asked it about them: once what messages can differ in, then 24 times for
some of them. The replies were written by a large language model for this project, from the prompts
alone, with none of the other messages in view. Such a model wrote the messages of load_helpdesk,
too: real customers may be further away than the test messages are."""


def load_helpdesk_generation():
    """Load three messages per class and a model that writes more, from a recording.

    No key and no network are needed. The model only answers what it was asked when it was recorded,
    which is what these parameters ask::

        GOLDAugmenter(
            llm=bunch.llm,
            task=bunch.task,
            class_descriptions=bunch.class_descriptions,
            n_novel_batches=6,
            n_samples=300,
            batch_size=14,
            random_state=0,
        ).fit(bunch.data, bunch.target)

    Anything else is a :class:`~skllmreg.exceptions.ReplayMissError`.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        data : list of str
            18 messages.
        target : ndarray of str of shape (18,)
            What their writer meant.
        indices : ndarray of int of shape (18,)
            Their positions in :func:`load_helpdesk`: the other messages are for testing.
        llm : ChatModel
            With ``mode="replay"``.
        task : str
            What the messages are sorted by.
        class_descriptions : dict of str to str
            What belongs to each class.
        DESCR : str
            Where the replies come from, and what they can show.

    Examples
    --------
    >>> from skllmreg.datasets import load_helpdesk_generation
    >>> bunch = load_helpdesk_generation()
    >>> len(bunch.data), bunch.llm.mode
    (18, 'replay')
    """
    helpdesk = load_helpdesk()
    order = np.random.default_rng(_SEED).permutation(len(helpdesk.data))
    indices = np.concatenate(
        [order[helpdesk.target[order] == name][:_PER_CLASS] for name in helpdesk.target_names]
    )
    return Bunch(
        data=[helpdesk.data[i] for i in indices],
        target=helpdesk.target[indices],
        indices=indices,
        llm=ChatModel(
            "language-model",
            base_url="http://localhost:8099/v1",
            cache=_cache_file(),
            mode="replay",
        ),
        task="Sort messages to the help desk of an online shop by what the writer wants.",
        class_descriptions={
            "account": "signing in, passwords, personal data, opening or closing an account",
            "billing": "invoices, charges, payment methods, what was or will be paid",
            "delivery": "where an order is, when and how it comes, delays, lost parcels, addresses",
            "presale": "questions before buying: stock, sizes, prices, which product fits",
            "refund": "wants money back, or to return or exchange what was bought",
            "technical": "a product, the app or the web site does not work as it should",
        },
        DESCR=_DESCR,
    )


@functools.lru_cache(maxsize=1)
def _cache_file():
    """The recording as a file that a ChatModel replays; it goes when the process ends."""
    folder = tempfile.mkdtemp(prefix="skllmreg-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "helpdesk_generation.sqlite3"
    store = Store(path)
    recorded = files("skllmreg.datasets") / "data" / "helpdesk_generation.jsonl"
    for line in recorded.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        record = Record(**entry["reply"])
        store.put(entry["key"], entry["server"], entry["model"], entry["request"], record)
    store.close()
    return str(path)
