from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import sktransfer
from sktransfer.backbones.plugins import hook_results
from sktransfer.engine.compute import Compute, resolve_compute
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import InvalidParameterError, RuntimeFallbackWarning
from sktransfer.runtimes import resolve
from sktransfer.runtimes.resolve import find_runtime
from sktransfer.runtimes.runtime import Runtime


class Made(Runtime):
    """Runtime whose library is missing if `missing` says so."""

    def __init__(self, name, *, missing="", automatic=False, precisions=("float32",)):
        self.name, self._missing, self.is_automatic, self.precisions = name, missing, automatic, precisions

    def version(self):
        if self._missing:
            raise ImportError(self._missing)
        return "1.0"

    def convert(self, program):
        return program.module()

    def write(self, model, folder):
        (folder / "model").write_text("")

    def read(self, folder):
        raise NotImplementedError

    def compile(self, model, precision, n_threads):
        return lambda arrays: model(*(torch.from_numpy(one) for one in arrays.values())).numpy()


@pytest.fixture
def installed(monkeypatch):
    """Replace the runtimes of installed plugins."""

    def install(*runtimes, failures=()):
        found = {one.name: one for one in runtimes}
        monkeypatch.setattr(resolve, "_found", {id(resolve.registry()): (found, list(failures))})
        monkeypatch.setattr(resolve, "_warned", set())

    return install


def test_find_runtime_of_torch_is_none_and_reads_no_plugin(installed):
    assert find_runtime("torch", "bfloat16", on_cpu=True) is None


def test_find_runtime_that_is_not_installed_names_the_distribution(installed):
    installed(Made("other"), failures=["broken = broken: ImportError: no"])
    with pytest.raises(InvalidParameterError, match="pip install plugins/openvino, or"):
        find_runtime("openvino", "float32", on_cpu=True)
    with pytest.raises(InvalidParameterError, match=r"install the plugin .*'other'.*'openvino'.*broken"):
        find_runtime("openvin", "float32", on_cpu=True)


def test_find_runtime_without_its_library_names_the_distribution(installed):
    installed(Made("openvino", missing="No module named 'openvino'"))
    with pytest.raises(InvalidParameterError, match=r"lacks its library.*pip install plugins/openvino"):
        find_runtime("openvino", "float32", on_cpu=True)


@pytest.mark.parametrize(
    ("precision", "on_cpu", "message"),
    [("float16", True, "float16.*is not one of runtime='made'"), ("float32", False, "device='cpu'")],
)
def test_find_runtime_refuses_other_precisions_and_devices(installed, precision, on_cpu, message):
    installed(Made("made"))
    with pytest.raises(InvalidParameterError, match=message):
        find_runtime("made", precision, on_cpu=on_cpu)


def test_find_runtime_auto_chooses_a_fast_one_that_is_complete(installed):
    installed(Made("a", automatic=True, missing="none"), Made("b"), Made("c", automatic=True))
    assert find_runtime("auto", "float32", on_cpu=True).name == "c"
    assert find_runtime("auto", "float32", on_cpu=False) is None


def test_find_runtime_auto_without_any_is_torch_and_warns_once(installed, recwarn):
    installed(Made("a", automatic=True, missing="No module named 'a'"))
    with pytest.warns(RuntimeFallbackWarning, match="No module named 'a'.*pip install"):
        assert find_runtime("auto", "float32", on_cpu=True) is None
    assert find_runtime("auto", "float32", on_cpu=True) is None
    assert not recwarn.list


def test_precision_int8_needs_a_runtime(installed):
    installed()
    for runtime in ("torch", "auto"):
        with sktransfer.config_context(runtime=runtime), pytest.raises(InvalidParameterError, match="pip install"):
            resolve_compute("cpu", "int8")


def test_precision_auto_is_float32_in_a_runtime(installed):
    installed(Made("made"))
    with sktransfer.config_context(runtime="made"):
        compute = resolve_compute("cpu", "auto")
    assert (compute.runtime, compute.precision) == ("made", "float32")


def test_cache_namespace_depends_on_the_runtime(installed):
    installed(Made("made"))
    backbone = sktransfer.load_backbone("tiny/cnn")
    cpu = torch.device("cpu")
    digests = {LayerOutput(1).namespace(backbone, Compute(cpu, runtime=one)).digest for one in ("torch", "made")}
    assert len(digests) == 2


def test_hook_results_of_runtimes_must_be_named_after_the_entry_point(tmp_path, monkeypatch):
    (tmp_path / "plugin_of_runtimes.py").write_text(
        "from sktransfer.backbones import hookimpl\n"
        "@hookimpl\ndef sktransfer_runtimes():\n    from tests.runtimes.test_resolve import Made\n"
        "    return [Made('other')]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert [one.name for one in hook_results("made", "plugin_of_runtimes", "sktransfer_runtimes")] == ["other"]
    with pytest.raises(sktransfer.exceptions.PluginError, match="'other' must have the name of the entry point"):
        resolve._runtimes_of("made", "plugin_of_runtimes")


@pytest.mark.process
def test_runtime_of_a_worker_process_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("SKTRANSFER_RUNTIME", "openvinno")
    code = "import numpy, sktransfer; print(sktransfer.get_config()['runtime'])"
    code += "; sktransfer.ImageFeaturizer().fit([numpy.zeros((8, 8, 3))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "openvinno"
    assert "InvalidParameterError: SKTRANSFER_RUNTIME: runtime='openvinno' is not installed" in done.stderr


def test_find_runtime_names_the_variable_of_the_environment(installed, monkeypatch):
    installed(Made("made"))
    monkeypatch.setenv("SKTRANSFER_RUNTIME", "mad")
    with pytest.raises(
        InvalidParameterError, match=r"^SKTRANSFER_RUNTIME: runtime='mad' is not .* Did you mean 'made'"
    ):
        find_runtime("mad", "float32", on_cpu=True)
    with pytest.raises(InvalidParameterError, match=r"^runtime='others' is not"):
        find_runtime("others", "float32", on_cpu=True)
