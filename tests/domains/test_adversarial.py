import numpy as np
import pytest
import torch

from sktransfer import DANN
from sktransfer.domains.adversarial import DomainHead, reversal_strength
from sktransfer.exceptions import InvalidParameterError


def test_dann_loss_is_the_mean_of_the_cross_entropies_of_both_domains():
    logits, domain = np.array([0.5, -1, 2, 0.1, 3.0]), np.array([1, 1, -1, -1, -1])
    probability = 1 / (1 + np.exp(-logits))
    expected = -(np.log(probability[:2]).mean() + np.log(1 - probability[2:]).mean()) / 2
    task = DANN()
    targets = task.encode(task.check(domain), np.ones(5))
    loss = task.loss(torch.from_numpy(logits)[:, None], torch.from_numpy(targets.values).double(), None)
    np.testing.assert_allclose(loss.numpy(), np.full(5, expected))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_domain_head_reverses_the_gradient_of_features_alone(strength):
    torch.manual_seed(0)
    head = DomainHead(4, hidden=3, lr=0.1).double()
    features = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    plain = head.linear[1:](features).sum()
    expected = torch.autograd.grad(plain, [features, *head.linear.parameters()])
    head.reversal.strength = strength
    found = torch.autograd.grad(head(features).sum(), [features, *head.linear.parameters()])
    torch.testing.assert_close(found[0], -strength * expected[0])
    for one, other in zip(found[1:], expected[1:]):
        torch.testing.assert_close(one, other)


def test_reversal_strength_is_the_published_schedule():
    for progress in np.linspace(0, 1, 7):
        expected = 2 / (1 + np.exp(-10 * progress)) - 1
        np.testing.assert_allclose(reversal_strength(progress), expected, atol=1e-12)


@pytest.mark.parametrize("alignment", [DANN(lr=0), DANN(hidden=0)], ids=repr)
def test_for_fit_refuses_parameters(alignment):
    with pytest.raises(InvalidParameterError, match=r"lr=0|hidden=0"):
        alignment.for_fit()
