from sktransfer.testing import parametrize_with_backbone_checks


@parametrize_with_backbone_checks(["template/small"])
def test_conforms(backbone_name, check):
    check()
