from sktransfer.testing import parametrize_with_backbone_checks


@parametrize_with_backbone_checks(["template/small"])
def test_backbone_checks(backbone_name, check):
    check()
