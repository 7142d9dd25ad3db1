import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import softmax

from sktransfer import CORAL, MCC, MMD
from sktransfer.exceptions import InvalidParameterError

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(11, 3)) + 1
DOMAIN = np.array([1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1])
WEIGHT = np.array([1, 2, 3, 1, 1, 2, 1, 1, 3, 1, 1.0])


def losses(alignment, outputs, weight=None):
    weight = np.ones(len(outputs)) if weight is None else weight
    targets = alignment.encode(alignment.check(DOMAIN[: len(outputs)]), weight)
    return alignment.loss(torch.from_numpy(outputs), torch.from_numpy(targets.values).double(), None)


def repeated(values, weight):
    return np.repeat(values, weight.astype(int), axis=0)


def kernel_mean(one, other, mean):
    squares = cdist(one, other, "sqeuclidean")
    return np.mean([np.exp(-squares / (mean * width)) for width in (0.25, 0.5, 1, 2, 4)])


def mmd_by_hand(source, target):
    both = np.concatenate([source, target])
    squares = cdist(both, both, "sqeuclidean")
    mean = squares[~np.eye(len(both), dtype=bool)].mean()
    return kernel_mean(source, source, mean) + kernel_mean(target, target, mean) - 2 * kernel_mean(source, target, mean)


def mcc_by_hand(logits, temperature):
    p = softmax(logits / temperature, axis=1)
    certainty = 1 + np.exp((p * np.log(p)).sum(1))
    certainty *= len(p) / certainty.sum()
    n_classes = p.shape[1]
    pairs = np.array(
        [[sum(w * a[j] * a[k] for w, a in zip(certainty, p)) for k in range(n_classes)] for j in range(n_classes)]
    )
    pairs /= pairs.sum(1, keepdims=True)
    return sum(pairs[j, k] for j in range(n_classes) for k in range(n_classes) if j != k) / n_classes


def test_coral_loss_is_the_distance_of_covariances():
    gap = np.cov(FEATURES[DOMAIN > 0].T) - np.cov(FEATURES[DOMAIN < 0].T)
    expected = np.linalg.norm(gap) ** 2 / (4 * 3**2)
    np.testing.assert_allclose(losses(CORAL(), FEATURES).numpy(), np.full(11, expected), rtol=1e-6)


def test_coral_loss_weighs_samples_within_their_domain():
    of_domain = [FEATURES[sign == DOMAIN] for sign in (1, -1)]
    gap = np.subtract(*(np.cov(one.T, aweights=WEIGHT[sign == DOMAIN]) for one, sign in zip(of_domain, (1, -1))))
    expected = np.linalg.norm(gap) ** 2 / (4 * 3**2)
    np.testing.assert_allclose(losses(CORAL(), FEATURES, WEIGHT)[0].item(), expected, rtol=1e-6)


def test_mmd_loss_is_the_discrepancy_of_kernel_means():
    expected = mmd_by_hand(FEATURES[DOMAIN > 0], FEATURES[DOMAIN < 0])
    np.testing.assert_allclose(losses(MMD(), FEATURES).numpy(), np.full(11, expected), rtol=1e-6)


def test_mmd_n_kernels_changes_the_loss():
    assert losses(MMD(n_kernels=1), FEATURES)[0] != losses(MMD(), FEATURES)[0]


def test_mcc_loss_is_the_confusion_of_target_predictions():
    expected = mcc_by_hand(FEATURES[DOMAIN < 0], 2.5)
    np.testing.assert_allclose(losses(MCC(), FEATURES).numpy(), np.full(11, expected), rtol=1e-6)


def test_mcc_loss_counts_a_weight_of_2_as_two_samples():
    rows = DOMAIN < 0
    expected = mcc_by_hand(repeated(FEATURES[rows], WEIGHT[rows]), 2.5)
    np.testing.assert_allclose(losses(MCC(), FEATURES, WEIGHT)[0].item(), expected, rtol=1e-6)


def test_mcc_temperature_divides_the_logits():
    one, other = losses(MCC(1.0), FEATURES / 2.5), losses(MCC(), FEATURES)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("alignment", [CORAL(), MMD(), MCC()], ids=repr)
def test_loss_is_zero_with_one_sample_of_a_domain(alignment):
    outputs = torch.tensor(FEATURES[:6], requires_grad=True)
    for domain in ([1, 1, 1, 1, 1, -1], [1, 1, 1, 1, 1, 1], [-1, -1, -1, -1, -1, 1]):
        loss = alignment.loss(outputs, torch.tensor(domain).double(), None)
        (gradient,) = torch.autograd.grad(loss.sum(), outputs)
        assert not loss.any()
        assert not gradient.any()


@pytest.mark.parametrize("alignment", [CORAL(), MMD()], ids=repr)
def test_loss_falls_along_its_gradient(alignment):
    outputs = torch.tensor(FEATURES, requires_grad=True)
    before = alignment.loss(outputs, torch.tensor(DOMAIN).double(), None)[0]
    (gradient,) = torch.autograd.grad(before, outputs)
    after = alignment.loss(outputs - 0.1 * gradient / gradient.norm(), torch.tensor(DOMAIN).double(), None)[0]
    assert after < before


@pytest.mark.parametrize("alignment", [MMD(0), MMD(1.5), MCC(0.0), MCC("warm")], ids=repr)
def test_for_fit_refuses_parameters(alignment):
    with pytest.raises(InvalidParameterError, match=r"n_kernels|temperature"):
        alignment.for_fit()
