from sktransfer.testing import parametrize_with_runtime_checks


@parametrize_with_runtime_checks("onnxruntime")
def test_runtime_checks(check):
    check()
