"""What joins two towers is data on each, kept as long as its last stage is."""

from __future__ import annotations

import pickle

from sktransfer.backbones import SharedSpace, replace_stages
from tests.helpers.toys import image_backbone

SPACE = SharedSpace(texts="toy/words", scale=3.0)


def test_shared_space_is_kept_while_the_last_stage_is():
    backbone = image_backbone(shared_space=SPACE)
    assert backbone.shared_space is SPACE
    assert image_backbone().shared_space is None
    assert backbone.with_preprocess(backbone.preprocess).shared_space is SPACE
    assert pickle.loads(pickle.dumps(backbone)).shared_space == SPACE
    assert replace_stages(backbone, 2, [backbone.stages[2]]).shared_space is SPACE
    assert replace_stages(backbone, 2, []).shared_space is None  # the vectors of a lower stage lie elsewhere
