"""The kit on both networks."""

from __future__ import annotations

from historic_folders import name

from sktransfer.testing import parametrize_with_backbone_checks


@parametrize_with_backbone_checks([name("awd_lstm"), name("elmo")])
def test_backbone_checks(backbone_name, check):
    check()
