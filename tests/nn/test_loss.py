import numpy as np
import pytest
import torch

from skllmreg.nn._attributions import cosines, input_gradients, path_gradients
from skllmreg.nn._loss import AlignedLoss

KINDS = ["gradient", "input_x_gradient", "integrated_gradients"]


def toy(n_outputs, n=6, d=4, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    network = torch.nn.Sequential(
        torch.nn.Linear(d, 5), torch.nn.SiLU(), torch.nn.Linear(5, n_outputs)
    ).double()
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(random(*p.shape))
    Y = torch.eye(n_outputs, dtype=torch.float64)[torch.arange(n) % n_outputs]
    if n_outputs == 1:
        Y = (torch.arange(n)[:, None] % 2).double()
    weights = [random(n).abs() + 0.1 for _ in range(2)]
    rows = [random(n, d), Y, *(w / w.mean() for w in weights)]
    target = random(n_outputs, d)
    target = target - target.mean(dim=0) if n_outputs > 1 else target
    return network, rows, target / target.norm(), random(d)


def objective(target, baseline, **options):
    options = {
        "gamma": 0.7,
        "alpha": 0.1,
        "attribution": "gradient",
        "per_sample": True,
        "loss": "log_loss",
    } | options
    return AlignedLoss(options.pop("loss"), target, baseline, **options)


@pytest.mark.parametrize("attribution", KINDS)
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_gradient_by_the_weights_equals_finite_differences(attribution, n_outputs):
    network, rows, target, baseline = toy(n_outputs)
    loss = objective(target, baseline, attribution=attribution)
    check_gradient(network, lambda: loss(network, *rows))


def test_gradient_of_the_batch_mean_and_the_squared_error_equal_finite_differences():
    network, rows, target, baseline = toy(1)
    loss = objective(target, baseline, per_sample=False, loss="squared_error")
    check_gradient(network, lambda: loss(network, *rows))


def check_gradient(network, value, step=1e-6):
    parameters = list(network.parameters())
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(value(), parameters)])
    numeric = []
    for p in parameters:
        for i in range(p.numel()):
            entry = p.data.view(-1)
            middle = entry[i].item()
            entry[i] = middle + step
            above = value().item()
            entry[i] = middle - step
            numeric.append((above - value().item()) / (2 * step))
            entry[i] = middle
    np.testing.assert_allclose(exact.numpy(), numeric, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("attribution", KINDS)
def test_alignment_trains_the_weights_of_every_layer(attribution):
    network, (X, *_, row_weight), target, baseline = toy(1)
    X.requires_grad_()
    loss = objective(target, baseline, attribution=attribution)
    matrices = [p for p in network.parameters() if p.ndim > 1]
    gradients = torch.autograd.grad(loss.misalignment(network, X, network(X), row_weight), matrices)
    assert all(g.abs().max() > 1e-3 for g in gradients)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_objective_of_a_linear_network_is_that_of_the_linear_model(n_outputs):
    _, (X, Y, loss_weight, row_weight), target, baseline = toy(n_outputs)
    linear = torch.nn.Linear(4, n_outputs).double()
    value = objective(target, baseline)(linear, X, Y, loss_weight, row_weight).item()
    W, b = (p.detach().numpy() for p in linear.parameters())
    eta, Y = X.numpy() @ W.T + b, Y.numpy()
    if n_outputs == 1:
        losses = np.logaddexp(0, -(2 * Y - 1) * eta)[:, 0]
    else:
        losses = np.log(np.exp(eta).sum(axis=1)) - (Y * eta).sum(axis=1)
    centered = W - W.mean(axis=0) if n_outputs > 1 else W
    cosine = np.vdot(centered, target.numpy()) / np.linalg.norm(centered)
    expected = np.average(losses, weights=loss_weight) + 0.7 * (1 - cosine) + 0.05 * np.vdot(W, W)
    assert value == pytest.approx(expected, rel=1e-10)


def test_per_sample_equals_batch_mean_for_a_linear_network_alone():
    network, rows, target, baseline = toy(1)
    linear = torch.nn.Linear(4, 1).double()
    each, mean = (objective(target, baseline, per_sample=flag) for flag in (True, False))
    assert each(linear, *rows).item() == pytest.approx(mean(linear, *rows).item(), abs=1e-12)
    assert abs(each(network, *rows) - mean(network, *rows)) > 0.01


def test_gradients_are_those_of_each_row():
    network, (X, *_), _, _ = toy(3)
    X.requires_grad_()
    expected = torch.stack([torch.autograd.functional.jacobian(network, x) for x in X])
    torch.testing.assert_close(input_gradients(network(X), X), expected)


def test_integrated_gradients_add_up_to_the_difference_from_the_baseline():
    network, (X, *_), _, baseline = toy(3)
    integrated = path_gradients(network, X, baseline) * (X - baseline)[:, None]
    difference = network(X) - network(baseline[None])
    torch.testing.assert_close(integrated.sum(dim=2), difference, rtol=0, atol=0.05)


def test_a_row_of_weight_zero_does_not_count():
    network, (X, Y, _, _), target, baseline = toy(1)
    loss = objective(target, baseline)
    keep = torch.tensor([2.0, 1, 1, 2, 0, 0], dtype=torch.float64)
    all_rows = loss(network, X, Y, keep, keep)
    kept = loss(network, X[:4], Y[:4], keep[:4] * 4 / 6, keep[:4] * 4 / 6)
    assert all_rows.item() == pytest.approx(kept.item(), rel=1e-12)


def test_dead_units_have_a_finite_gradient():
    network, rows, target, baseline = toy(1)
    dead = torch.nn.Sequential(network[0], torch.nn.ReLU(), network[2])
    with torch.no_grad():
        dead[0].bias -= 100
    for kind in KINDS:
        loss = objective(target, baseline, attribution=kind)(dead, *rows)
        assert loss.isfinite()
        for gradient in torch.autograd.grad(loss, list(dead.parameters())):
            assert gradient.isfinite().all()


def test_cosine_of_an_attribution_of_zero_is_zero():
    attributions = torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]]])
    target = torch.tensor([[[0.6, 0.8]]])
    assert cosines(attributions, target, 1e-3).tolist() == pytest.approx([0, 1], abs=1e-6)
