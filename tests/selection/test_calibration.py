import numpy as np
import pytest
from scipy.special import softmax

from skllmreg.selection import expected_calibration_error
from skllmreg.selection._refine import second_opinion
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


def test_a_student_that_knows_only_frequencies_changes_nothing():
    teacher = softmax(rng.normal(size=(200, 3)), axis=1)
    student = np.tile(teacher.mean(axis=0), (200, 1))
    np.testing.assert_allclose(second_opinion(teacher, student), teacher, atol=1e-6)


def test_a_sure_student_outweighs_a_half_sure_teacher_and_not_a_sure_one():
    truth = np.arange(300) % 3
    student = 0.85 * np.eye(3)[truth] + 0.05
    teacher = 0.85 * np.eye(3)[truth] + 0.05
    teacher[0] = [0.4, 0.5, 0.1]  # wrong, and not sure: the truth is 0
    teacher[3] = [0.0005, 0.999, 0.0005]  # sure
    combined = second_opinion(teacher, student)
    assert combined[0].argmax() == 0
    student[3] = [0.5, 0.3, 0.2]
    assert second_opinion(teacher, student)[3].argmax() == 1
