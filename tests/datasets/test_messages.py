import numpy as np

from skllmreg.datasets import load_helpdesk


def test_messages_labels_and_probabilities_belong_together():
    helpdesk = load_helpdesk()
    assert len(helpdesk.data) == len(set(helpdesk.data)) == len(helpdesk.target) == 600
    np.testing.assert_allclose(helpdesk.teacher_proba.sum(axis=1), 1)
    names = np.array(helpdesk.target_names)
    np.testing.assert_array_equal(names[helpdesk.teacher_proba.argmax(axis=1)], helpdesk.target)
    assert (np.unique(helpdesk.target, return_counts=True)[1] == 100).all()


def test_it_says_what_it_is():
    assert "written by a\nlarge language model" in load_helpdesk().DESCR
    assert "too easy for a claim" in load_helpdesk().DESCR
