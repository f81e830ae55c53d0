"""The recorded replies answer what `GOLDAugmenter` asks today."""

import numpy as np
import pytest

from skllmreg import GOLDAugmenter
from skllmreg.datasets import load_helpdesk, load_helpdesk_generation
from skllmreg.exceptions import ReplayMissError

# A prompt has changed, or what is drawn for it: record anew. Serve the model under the `base_url`
# of the bunch's llm, fit the augmenter below with the same ChatModel but mode="live" and a cache
# file of its own, and write the entries of `python -m skllmreg cache export --file FILE` to
# skllmreg/datasets/data/helpdesk_generation.jsonl; then run the example and the demo, and look at
# their numbers.
RECORD_ANEW = "a prompt is not in the recording; see the top of this test for how to record anew"


def test_three_messages_per_class_grow_to_three_hundred_by_replay():
    bunch = load_helpdesk_generation()
    model = GOLDAugmenter(
        llm=bunch.llm,
        task=bunch.task,
        class_descriptions=bunch.class_descriptions,
        n_novel_batches=6,
        n_samples=300,
        batch_size=14,
        random_state=0,
    )
    try:
        model.fit(bunch.data, bunch.target)
    except ReplayMissError as error:
        pytest.fail(f"{RECORD_ANEW}\n{error}")
    assert np.unique(model.y_generated_, return_counts=True)[1].tolist() == [50] * 6
    assert sum(entry["feedback"] for entry in model.history_) > 0
    assert not set(model.X_generated_) & set(load_helpdesk().data)


def test_seeds_are_three_of_each_class_of_the_messages_that_ship():
    bunch, helpdesk = load_helpdesk_generation(), load_helpdesk()
    assert [helpdesk.data[i] for i in bunch.indices] == bunch.data
    assert np.unique(bunch.target, return_counts=True)[1].tolist() == [3] * 6
    assert set(bunch.class_descriptions) == set(helpdesk.target_names)
    assert "large language model" in bunch.DESCR
