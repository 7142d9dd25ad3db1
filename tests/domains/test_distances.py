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
    pairs = []
    for part in (source, target):  # without the pairs of a sample with itself, whose kernel is 1
        n = len(part)
        pairs.append((n * n * kernel_mean(part, part, mean) - n) / (n * (n - 1)))
    return sum(pairs) - 2 * kernel_mean(source, target, mean)


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


def coral_by_hand(source, target, *, means):
    """Return the distance from all pairs of different rows, with the covariances written out."""
    width, n, m = source.shape[1], len(source), len(target)
    one, other = ((part - part.mean(0)) / np.sqrt(1 - 1 / len(part)) for part in (source, target))

    def within(rows):
        pairs = [np.trace(np.outer(a, a) @ np.outer(b, b)) for i, a in enumerate(rows) for b in np.delete(rows, i, 0)]
        return np.mean(pairs)

    across = 2 * np.trace(np.cov(source.T) @ np.cov(target.T))
    distance = (within(one) + within(other) - across) / (4 * width**2)
    if means:
        shift = ((source.mean(0) - target.mean(0)) ** 2).sum()
        shift -= np.trace(np.cov(source.T)) / n + np.trace(np.cov(target.T)) / m
        distance += shift / (4 * width)
    return distance


SHIFTED = FEATURES * np.where(DOMAIN > 0, 1, 3)[:, None]


@pytest.mark.parametrize("means", [True, False])
def test_coral_loss_is_the_distance_of_covariances_and_means(means):
    expected = coral_by_hand(SHIFTED[DOMAIN > 0], SHIFTED[DOMAIN < 0], means=means)
    np.testing.assert_allclose(losses(CORAL(means), SHIFTED).numpy(), np.full(11, expected), rtol=1e-6)


def test_coral_means_sees_a_shift():
    shifted = FEATURES + np.where(DOMAIN > 0, 0, 2)[:, None]
    assert losses(CORAL(), shifted)[0] > losses(CORAL(), FEATURES)[0] + 0.5
    torch.testing.assert_close(losses(CORAL(means=False), shifted), losses(CORAL(means=False), FEATURES))


def test_coral_loss_of_many_samples_is_that_of_their_covariances():
    rows, domain = np.random.default_rng(0).normal(size=(4000, 3)), np.repeat([1.0, -1.0], 2000)
    rows[2000:] *= 2
    gap = np.cov(rows[:2000].T) - np.cov(rows[2000:].T)
    loss = CORAL(means=False).loss(torch.from_numpy(rows), torch.from_numpy(domain), None)[0].item()
    np.testing.assert_allclose(loss, (gap**2).sum() / (4 * 3**2), rtol=0.02)  # 1 / n of the squared variances


def test_coral_loss_of_equal_domains_does_not_grow_with_their_spread():
    generator = np.random.default_rng(0)
    domain = torch.from_numpy(np.repeat([1.0, -1.0], 16))
    batches = generator.normal(size=(200, 32, 40))
    mean = np.mean([CORAL().loss(torch.from_numpy(batch), domain, None)[0].item() for batch in batches])
    biased = np.mean([((np.cov(one[:16].T) - np.cov(one[16:].T)) ** 2).sum() / (4 * 40**2) for one in batches])
    assert mean < 0.2 * biased


def test_coral_loss_weighs_samples_within_their_domain():
    rows = DOMAIN < 0
    heavy = np.where(rows, 5.0, 1.0)
    torch.testing.assert_close(losses(CORAL(), SHIFTED, heavy), losses(CORAL(), SHIFTED))
    without = losses(CORAL(), SHIFTED, (np.arange(11) != 2).astype(float))[0]
    kept = np.arange(11) != 2
    expected = coral_by_hand(SHIFTED[kept & ~rows], SHIFTED[rows], means=True)
    np.testing.assert_allclose(without.item(), expected, rtol=1e-6)
    assert losses(CORAL(), SHIFTED, WEIGHT)[0] != losses(CORAL(), SHIFTED)[0]


def test_mmd_loss_is_the_discrepancy_of_kernel_means():
    expected = mmd_by_hand(FEATURES[DOMAIN > 0], FEATURES[DOMAIN < 0])
    np.testing.assert_allclose(losses(MMD(), FEATURES).numpy(), np.full(11, expected), rtol=1e-6)


def test_mmd_loss_of_equal_domains_is_zero_in_the_mean():
    generator = np.random.default_rng(0)
    domain = torch.from_numpy(np.repeat([1.0, -1.0], 8))
    batches = torch.from_numpy(generator.normal(size=(300, 16, 5)))
    found = [MMD().loss(batch, domain, None)[0].item() for batch in batches]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(300) < 0.02


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
    outputs = torch.tensor(SHIFTED, requires_grad=True)
    before = alignment.loss(outputs, torch.tensor(DOMAIN).double(), None)[0]
    (gradient,) = torch.autograd.grad(before, outputs)
    after = alignment.loss(outputs - 0.1 * gradient / gradient.norm(), torch.tensor(DOMAIN).double(), None)[0]
    assert after < before


@pytest.mark.parametrize("alignment", [CORAL("yes"), MMD(0), MMD(1.5), MCC(0.0), MCC("warm")], ids=repr)
def test_for_fit_refuses_parameters(alignment):
    with pytest.raises(InvalidParameterError, match=r"means|n_kernels|temperature"):
        alignment.for_fit()
