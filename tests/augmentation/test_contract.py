import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skllmreg.augmentation import GOLDAugmenter

quiet = pytest.mark.filterwarnings("ignore::skllmreg.exceptions.NoLLMWarning")


@quiet
@parametrize_with_checks([GOLDAugmenter(), GOLDAugmenter(strategy="no-feedback")])
def test_sklearn_estimator_checks(estimator, check):
    check(estimator)
