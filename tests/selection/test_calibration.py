import numpy as np
import pytest
from scipy.special import softmax

from skllmreg.selection import expected_calibration_error
from skllmreg.students._calibration import fit_calibration

rng = np.random.default_rng(0)


def calibrated(n, bias=(0.0, 0.0, 0.0)):
    logits = 2 * rng.normal(size=(n, 3)) + bias
    proba = softmax(logits, axis=1)
    return logits, proba, np.array([rng.choice(3, p=p) for p in proba])


def test_temperature_undoes_over_confidence_and_lowers_the_calibration_error():
    logits, proba, codes = calibrated(3000)
    sure = softmax(3 * logits, axis=1)
    calibration = fit_calibration(sure, codes)
    assert calibration.slope == pytest.approx(1 / 3, rel=0.1)
    before, after = (expected_calibration_error(p, codes) for p in (sure, calibration(sure)))
    assert after < 0.03 < 0.1 < before


@pytest.mark.parametrize("codes", [["a", "b"], [1, 3], [0]])
def test_codes_that_are_no_positions_are_an_error(codes):
    with pytest.raises(ValueError, match=r"positions|inconsistent"):
        expected_calibration_error([[0.9, 0.1, 0], [0.2, 0.8, 0]], codes)


def test_biases_undo_wrong_class_frequencies():
    logits, proba, codes = calibrated(3000)
    shifted = softmax(logits + [1.0, 0.0, -1.0], axis=1)
    calibration = fit_calibration(shifted, codes, bias=True)
    np.testing.assert_allclose(calibration.bias - calibration.bias[1], [-1, 0, 1], atol=0.2)


def test_a_handful_of_labels_changes_little():
    proba = np.array([[0.99, 0.01], [0.01, 0.99]])
    assert 0.5 < fit_calibration(proba, np.array([0, 1])).slope < 3
    assert fit_calibration(np.empty((0, 2)), np.empty(0, int)).slope == pytest.approx(1)


def test_a_weak_prior_corrects_a_teacher_that_mostly_says_one_word():
    right = []
    for _ in range(20):
        logits, proba, codes = calibrated(40)
        stuck = softmax(logits + [6.0, 0.0, 0.0], axis=1)
        for bias_sd in (0.5, 3.0):
            calibration = fit_calibration(stuck, codes, bias=True, bias_sd=bias_sd)
            right.append(np.mean(calibration(stuck).argmax(axis=1) == codes))
    strong, weak = np.reshape(right, (20, 2)).mean(axis=0)
    assert strong < weak - 0.03


def test_weights_count_as_repeated_rows():
    _, proba, codes = calibrated(30)
    weight = 1.0 + np.arange(30) % 3
    one = fit_calibration(proba, codes, bias=True, weight=weight)
    rows = np.repeat(np.arange(30), weight.astype(int))
    two = fit_calibration(proba[rows], codes[rows], bias=True)
    np.testing.assert_allclose(one.bias, two.bias, atol=1e-4)
