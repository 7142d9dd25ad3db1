import pytest
import torch

from sktransfer import CORAL, DANN, MCC, MMD
from sktransfer.domains.base import Alignment
from sktransfer.domains.registry import choose_alignments
from sktransfer.exceptions import InvalidParameterError


def test_choose_alignments_copies_objects():
    given = DANN(hidden=8)
    (made,) = choose_alignments(given, 0.5).losses.values()
    assert made is not given
    assert repr(made) == "DANN(lr=0.001, hidden=8)"


def test_choose_alignments_leaves_out_weights_of_zero():
    chosen = choose_alignments(["coral", "mcc", "adabn"], {"coral": 0})
    assert list(chosen.losses) == ["mcc"]
    assert chosen.weights == {"mcc": 1.0}
    assert chosen.takes_statistics


def test_choose_alignments_takes_an_alignment_of_the_user():
    class Mean(Alignment):
        def distance(self, outputs, source, target):
            return (((source - target) @ outputs) ** 2).sum()

    assert list(choose_alignments([Mean(), "coral"], 1.0).losses) == ["mean", "coral"]


@pytest.mark.parametrize("alignment", [CORAL(), MMD(), DANN()], ids=repr)
def test_make_head_mixes_layers_at_equal_weights(alignment):
    head = alignment.make_head(8, n_mixed=2)
    assert not head.mix.scores.requires_grad
    assert not head.mix.gamma.requires_grad
    values = torch.arange(8.0)[None]
    torch.testing.assert_close(head.linear_input(values), (values[:, :4] + values[:, 4:]) / 2)
    assert all(one.requires_grad for one in head.linear.parameters())


@pytest.mark.parametrize(
    ("alignment", "weight", "message"),
    [
        ("corel", 1.0, "Did you mean 'coral'"),
        (None, 1.0, "alignment=None must be one of"),
        (DANN, 1.0, r"Give an instance, DANN\(\)"),
        ([], 1.0, "must be 'auto' or 'none' alone"),
        (["none", "coral"], 1.0, "must be 'auto' or 'none' alone"),
        (["auto", "mcc"], 1.0, "must be 'auto' or 'none' alone"),
        (["coral", CORAL()], 1.0, "has 'coral' twice"),
        ("coral", -1, "alignment_weight=-1 must be a number of at least 0"),
        ("coral", "much", "alignment_weight='much'"),
        (["coral", MCC()], {"corals": 1}, "alignment_weight names 'corals'.* Did you mean 'coral'"),
        ("adabn", {"coral": 1}, "no alignment here has a loss: give alignment='coral' by name"),
        ("coral", {"coral": None}, r"alignment_weight\['coral'\]=None"),
    ],
)
def test_choose_alignments_refuses(alignment, weight, message):
    with pytest.raises(InvalidParameterError, match=message):
        choose_alignments(alignment, weight)
