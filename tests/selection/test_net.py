from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import EpochScoring
from skorch.helper import predefined_split

from skllmreg import LLKDSelector
from skllmreg.selection._strategies import PaperRule, uncertainty
from skllmreg.students._net import BatchLesson, TeachingLoss, fit_net

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


class Focal(torch.nn.CrossEntropyLoss):
    pass


@pytest.mark.filterwarnings("ignore::skllmreg.exceptions.NoLLMWarning")
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"criterion": partial(torch.nn.CrossEntropyLoss, label_smoothing=0.1)},
        {"criterion": Focal},
        {"criterion__weight": torch.tensor([1.0, 2.0, 5.0])},
        {"callbacks": [EpochScoring("accuracy", on_train=True, lower_is_better=False)]},
    ],
)
def test_with_true_labels_only_a_net_is_trained_in_its_own_way(params):
    plain = net(**params).fit(X, truth)
    taught = LLKDSelector(net(**params)).fit(X, truth).estimator_
    np.testing.assert_array_equal(taught.predict_proba(X), plain.predict_proba(X))


def test_validation_rows_of_the_nets_own_split_are_not_taught():
    _, share = fit_net(net(), X, proba, np.ones(300))
    assert np.isnan(share).mean() == pytest.approx(0.2, abs=0.01)
    valid = torch.utils.data.TensorDataset(torch.as_tensor(X), torch.as_tensor(truth))
    _, share = fit_net(net(train_split=predefined_split(valid)), X, proba, np.ones(300))
    assert (share == 1).all()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_class_weights_and_reduction_count_as_in_torch(reduction):
    codes, output = torch.as_tensor(truth[:8]), torch.randn(8, 3)
    base = torch.nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 5.0]), reduction=reduction)
    loss = TeachingLoss(base, BatchLesson(np.eye(3)[truth[:8]], np.ones(8)))
    assert loss(output, torch.arange(-8, 0)).item() == pytest.approx(base(output, codes).item())


def test_a_masked_class_has_no_share_in_the_loss():
    output = torch.tensor([[0.0, 0.0, -torch.inf]], requires_grad=True)
    loss = TeachingLoss(torch.nn.CrossEntropyLoss, BatchLesson(np.eye(3)[:1], np.ones(1)))
    value = loss(output, torch.arange(-1, 0))
    value.backward()
    assert value.item() == pytest.approx(np.log(2))
    np.testing.assert_allclose(output.grad, [[-0.5, 0.5, 0]])


def test_the_gradient_can_be_differentiated_again():
    output = torch.randn(2, 3, requires_grad=True, dtype=torch.float64)
    loss = TeachingLoss(torch.nn.CrossEntropyLoss, BatchLesson(proba[:2], np.ones(2)))
    ours = loss(output, torch.arange(-2, 0))
    theirs = torch.nn.functional.cross_entropy(output, torch.as_tensor(proba[:2]))
    found, expected = (
        torch.autograd.grad(
            torch.autograd.grad(value, output, create_graph=True)[0].square().sum(), output
        )[0]
        for value in (ours, theirs)
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


class Stubborn(torch.utils.data.Dataset):
    """Gives the labels that it was made with."""

    def __init__(self, X, y):
        self.X, self.y, self.made_with = X, y, torch.as_tensor(y)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], self.made_with[i]


def test_a_data_set_that_cannot_be_taught_is_an_error():
    with pytest.raises(TypeError, match="elsewhere"):
        LLKDSelector(net(dataset=Stubborn)).fit(X, y, teacher_proba=proba)


@pytest.mark.parametrize("strategy", ["distill", "llkd"])
def test_what_a_net_cannot_do_is_found_out_before_a_teacher_is_paid(strategy):
    teacher = FrozenEstimator(Expensive().fit(X, truth))
    twelve = NeuralNetClassifier(
        torch.nn.Linear(5, 12), criterion=torch.nn.CrossEntropyLoss, verbose=0, max_epochs=1
    )
    for student, match in ((net(dataset=Stubborn), "elsewhere"), (twelve, "12 outputs")):
        with pytest.raises(ValueError, match=f"the teacher was not asked.*{match}"):
            LLKDSelector(student, teacher=teacher, strategy=strategy).fit(X, y)


def test_one_random_state_makes_the_fit_of_a_net_repeatable_and_leaves_torchs_alone():
    student = NeuralNetClassifier(
        torch.nn.Linear,
        module__in_features=5,
        module__out_features=3,
        criterion=torch.nn.CrossEntropyLoss,
        verbose=0,
    )
    before = torch.get_rng_state()
    fits = [
        LLKDSelector(student, max_teacher_calls=90, random_state=0).fit(X, y, teacher_proba=proba)
        for _ in "ab"
    ]
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(*(model.predict_proba(X) for model in fits))


def test_rows_of_any_shape_reach_a_net():
    images = X[:, :4].reshape(-1, 1, 2, 2)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    student = NeuralNetClassifier(module, criterion=torch.nn.CrossEntropyLoss, verbose=0)
    model = LLKDSelector(student, random_state=0).fit(images, y, teacher_proba=proba)
    assert model.predict(images).shape == (300,)


def test_an_empty_selection_has_loss_zero_and_a_gradient():
    def nothing(codes, weight, need):
        return 0 * weight

    lesson = BatchLesson(proba[:4], np.ones(4), nothing, np.zeros(4))
    loss = TeachingLoss(torch.nn.CrossEntropyLoss, lesson)
    output = torch.zeros(4, 3, requires_grad=True)
    value = loss(output, torch.arange(-4, 0))
    value.backward()
    assert value.item() == 0
    assert (output.grad == 0).all()
    lesson.count()
    assert lesson.shown.tolist() == [1] * 4
    assert lesson.used.tolist() == [0] * 4


def test_a_row_drawn_twice_into_a_batch_was_shown_twice():
    lesson = BatchLesson(proba[:4], np.array([1, 1, 0, 1]))
    lesson.weigh(np.array([-4, -4, -2, -1]), np.log(proba[:4].T))
    lesson.count()
    assert lesson.shown.tolist() == [2, 0, 1, 1]
    assert lesson.used.tolist() == [2, 0, 0, 1]


@pytest.mark.parametrize("criterion", [torch.nn.CrossEntropyLoss, torch.nn.NLLLoss])
@pytest.mark.parametrize("params", [{}, {"weight": torch.tensor([1.0, 2.0, 0.5])}])
def test_value_and_gradient_are_those_of_torchs_cross_entropy(criterion, params):
    target, weight = torch.as_tensor(proba[:8], dtype=torch.float32), torch.rand(8)
    outputs = [torch.randn(8, 3, generator=torch.manual_seed(0)).requires_grad_() for _ in "ab"]
    logits = outputs[1]
    if criterion is torch.nn.NLLLoss:
        given = [torch.softmax(output, dim=1) for output in outputs]
    else:
        given = outputs
        params = params | {"label_smoothing": 0.1}
    loss = TeachingLoss(criterion, BatchLesson(proba[:8], weight.numpy()), **params)
    ours = loss(given[0], torch.arange(-8, 0))
    theirs = torch.nn.functional.cross_entropy(logits, target, reduction="none", **params)
    size = 8 if "weight" not in params else (target @ params["weight"]).sum()
    theirs = torch.dot(theirs, weight) / size
    ours.backward()
    theirs.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    torch.testing.assert_close(outputs[0].grad, outputs[1].grad, rtol=1e-4, atol=1e-6)


def test_the_rule_in_a_batch_is_that_of_a_round():
    selector = LLKDSelector(strategy="llkd")
    options = {
        "class_thresholds": selector.class_thresholds,
        "weighting": selector.weighting,
        "confidence_threshold": selector.confidence_threshold,
        "uncertainty_threshold": selector.uncertainty_threshold,
    }
    rule = PaperRule({"teacher", "student"}, momentum=selector.momentum, **options)
    codes, weight = rule.fit(proba)
    labeled = np.arange(300) < 20
    lesson = BatchLesson(proba, np.where(labeled, 1, weight), rule, np.where(labeled, -1, codes))
    q = np.random.default_rng(0).dirichlet([1, 1, 1], 300)
    found = lesson.weigh(np.arange(-300, 0), np.log(q.T))
    again = PaperRule({"teacher", "student"}, momentum=0.0, **options)
    again.fit(proba)
    np.testing.assert_allclose(
        found[20:], again(codes[20:], weight[20:], uncertainty(q[20:])), atol=1e-4
    )
    assert (found[:20] == 1).all()


class Expensive(GaussianNB):
    def predict_proba(self, X):
        raise AssertionError("The teacher was asked.")


def test_other_losses_and_outputs_are_refused():
    for criterion in (torch.nn.MultiMarginLoss, Focal):
        with pytest.raises(TypeError, match=criterion.__name__):
            LLKDSelector(net(criterion)).fit(X, y, teacher_proba=proba)
    scored = net(callbacks=[("train_acc", EpochScoring("accuracy", on_train=True))])
    with pytest.raises(TypeError, match="'accuracy' scores on training rows"):
        LLKDSelector(scored).fit(X, y, teacher_proba=proba)
    for labels in (y, truth):
        with pytest.raises(TypeError, match="put the other steps before"):
            LLKDSelector(make_pipeline(StandardScaler(), net())).fit(X, labels, teacher_proba=proba)
    two = NeuralNetClassifier(
        torch.nn.Linear(5, 2), criterion=torch.nn.CrossEntropyLoss, train_split=None, verbose=0
    )
    teacher = FrozenEstimator(Expensive().fit(X, truth))
    with pytest.raises(TypeError, match="criterion is Focal"):
        LLKDSelector(net(Focal), teacher=teacher).fit(X, y)
    with pytest.raises(ValueError, match="2 outputs; there are 3 classes"):
        fit_net(two, X, proba, np.ones(300))
