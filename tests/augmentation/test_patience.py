import numpy as np
import pytest

from skllmreg.augmentation._loop import PATIENCE, Patience


def told(patience, *rounds):
    """Tell of rounds of (wanted, got); return what is given up after each."""
    total, given_up = np.zeros(len(patience.quotas)), []
    for wanted, got in rounds:
        total += got
        patience.update(np.array(wanted, float), np.array(got, float), total)
        given_up.append(set(patience.given_up))
    return given_up, total


def test_a_class_that_brings_nothing_is_given_up_after_two_rounds():
    patience = Patience(np.array([50.0, 50.0]), batch_size=8)
    given_up, total = told(patience, *[([8, 8], [8, 0])] * 3)
    assert given_up == [set(), {1}, {1}]
    assert not patience.is_over(total)


def test_it_is_tried_once_more_when_the_others_have_their_rows():
    patience = Patience(np.array([16.0, 50.0]), batch_size=8)
    given_up, total = told(patience, *[([8, 8], [8, 0])] * 2)
    assert given_up[-1] == {1}
    given_up, total = told(patience, ([0, 8], [16, 0]))
    assert given_up == [set()]
    given_up, total = told(patience, ([0, 8], [16, 0]), ([0, 8], [0, 0]))
    assert given_up[-1] == {1}
    assert patience.is_over(total)


def test_a_few_rows_are_enough_to_go_on():
    patience = Patience(np.array([50.0, 50.0]), batch_size=8)
    given_up, _ = told(patience, *[([8, 40], [8, 2])] * 5)
    assert given_up == [set()] * 5


def test_near_its_quota_patience_is_in_rows_too():
    patience = Patience(np.array([50.0, 9.0]), batch_size=8)
    given_up, _ = told(patience, ([8, 8], [8, 8]), *[([8, 2], [8, 0])] * 4)
    assert given_up[:3] == [set()] * 3


@pytest.mark.parametrize("got", [0, 1])
def test_without_quotas_no_class_goes_on_alone(got):
    patience = Patience(np.array([np.inf, np.inf]), batch_size=8)
    given_up, total = told(patience, *[([8, 8], [8 * got, 0])] * PATIENCE)
    assert given_up == [set()] * PATIENCE
    assert patience.is_over(total) == (not got)
