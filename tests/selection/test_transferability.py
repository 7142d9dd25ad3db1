from __future__ import annotations

import sktransfer.selection.transferability as scores


def test_every_score_stands_under_one_name():
    assert scores.__all__ == sorted(scores.__all__)
    assert {name: getattr(scores, name).__name__ for name in scores.__all__} == {name: name for name in scores.__all__}
