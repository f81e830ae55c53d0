import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from skorch import NeuralNetClassifier
from skorch.helper import predefined_split

from skllmreg import LLKDSelector
from skllmreg.selection._net import BatchLesson, TeachingLoss, fit_net

X, truth = make_classification(300, 5, n_informative=4, n_redundant=0, n_classes=3, random_state=0)
X = X.astype(np.float32)
y = np.where(np.arange(300) < 30, truth, -1)
proba = 0.7 * np.eye(3)[truth] + 0.1
names = np.array(["b", "c", "a"])


@pytest.fixture(autouse=True)
def _one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def net(criterion=torch.nn.CrossEntropyLoss, **params):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(5, 3)]
    if criterion is torch.nn.NLLLoss:
        layers.append(torch.nn.Softmax(dim=1))
    params = {"max_epochs": 6, "lr": 0.5, "verbose": 0, "batch_size": 50} | params
    return NeuralNetClassifier(torch.nn.Sequential(*layers), criterion=criterion, **params)


@pytest.mark.parametrize("criterion", [torch.nn.CrossEntropyLoss, torch.nn.NLLLoss])
@pytest.mark.parametrize("strategy", ["llkd", "teacher", "student", "all", "distill"])
def test_a_net_of_the_users_learns_without_a_subclass(criterion, strategy):
    labels = np.where(y == -1, None, names[y])
    model = LLKDSelector(net(criterion), strategy=strategy, random_state=0)
    model.fit(X, labels, teacher_proba=proba, classes=names)
    assert model.score(X, names[truth]) > 0.5
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, atol=1e-5)
    fitted = model.estimator_
    assert fitted.criterion is criterion
    assert isinstance(fitted.criterion_, criterion)
    assert "valid_acc" in fitted.history[-1]


def test_the_rule_selects_in_every_batch_and_the_shares_are_told():
    model = LLKDSelector(net(train_split=None), strategy="llkd", labels="hard").fit(
        X, y, teacher_proba=proba
    )
    weight = model.sample_weight_[y[model.sample_indices_] == -1]
    assert ((weight > 0) & (weight <= 1)).all()
    assert len(set(weight)) > 2
    assert model.history_[0]["selected"] == pytest.approx(weight.sum())
    assert set(model.history_[0]["thresholds"]) == {"teacher", "student"}


def test_soft_targets_of_one_class_are_plain_labels():
    plain = net(train_split=None).fit(X, truth)
    taught, share = fit_net(net(train_split=None), X, np.eye(3)[truth], np.ones(300))
    np.testing.assert_allclose(taught.predict_proba(X), plain.predict_proba(X), atol=1e-5)
    assert (share == 1).all()


def test_validation_rows_of_the_nets_own_split_are_not_taught():
    _, share = fit_net(net(), X, np.eye(3)[truth], np.ones(300))
    assert np.isnan(share).mean() == pytest.approx(0.2, abs=0.01)
    valid = torch.utils.data.TensorDataset(torch.as_tensor(X), torch.as_tensor(truth))
    _, share = fit_net(net(train_split=predefined_split(valid)), X, np.eye(3)[truth], np.ones(300))
    assert (share == 1).all()


def test_an_empty_selection_has_loss_zero_and_a_gradient():
    def nothing(teacher_proba, student_proba):
        return np.zeros(len(teacher_proba), bool), np.empty(0)

    lesson = BatchLesson(proba[:4], np.ones(4), nothing, proba[:4])
    loss = TeachingLoss(torch.nn.CrossEntropyLoss, lesson)
    output = torch.zeros(4, 3, requires_grad=True)
    value = loss(output, -1 - torch.arange(4))
    value.backward()
    assert value.item() == 0
    assert (output.grad == 0).all()
    assert lesson.shown.tolist() == [1] * 4
    assert lesson.used.tolist() == [0] * 4


def test_other_losses_and_outputs_are_refused():
    with pytest.raises(TypeError, match="MultiMarginLoss"):
        LLKDSelector(net(torch.nn.MultiMarginLoss)).fit(X, y, teacher_proba=proba)
    two = NeuralNetClassifier(
        torch.nn.Linear(5, 2), criterion=torch.nn.CrossEntropyLoss, train_split=None, verbose=0
    )
    with pytest.raises(ValueError, match="2 outputs; there are 3 classes"):
        fit_net(two, X, np.eye(3)[truth], np.ones(300))
