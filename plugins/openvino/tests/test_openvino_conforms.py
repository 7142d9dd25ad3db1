from sktransfer.testing import parametrize_with_runtime_checks


@parametrize_with_runtime_checks("openvino")
def test_runtime_checks(check):
    check()
