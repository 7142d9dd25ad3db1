from __future__ import annotations

import sys

import numpy as np
import pytest
import safetensors.torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import sktransfer
from sktransfer import ImageFeaturizer, load, save
from sktransfer.exceptions import InvalidParameterError, LoadError, SktransferWarning
from tests.fuzz.fuzz_persistence import flipped, forged, main, originals, outcome
from tests.helpers.forged_files import forge, json_node, node_data
from tests.helpers.saved_estimators import fitted


@pytest.fixture
def file(tmp_path):
    def of(estimator, **options):
        save(estimator, tmp_path / "one.skt", **options)
        return tmp_path / "one.skt"

    return of


def refused(path):
    with pytest.raises(LoadError) as error:
        load(path)
    assert str(path) in str(error.value)
    return str(error.value)


def rename_root(module, name):
    """Return a change of a schema that gives its root another type."""

    def change(schema):
        schema["__module__"], schema["__class__"] = module, name

    return change


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("builtins", "eval"), ("subprocess", "Popen"), ("antigravity", "Fly"), ("numpy", "save")],
)
def test_load_refuses_unknown_types_by_name_without_importing_them(file, module, name):
    path = file(LogisticRegression())
    forge(path, schema=rename_root(module, name))
    assert f"it holds ['{module}.{name}'], which is not known to be safe, so nothing was loaded" in refused(path)
    assert "antigravity" not in sys.modules


def test_load_refuses_constructor_nodes_of_other_functions(file):
    path = file(LogisticRegression())

    def call(schema):
        content = {
            "__class__": "tuple",
            "__module__": "builtins",
            "__loader__": "TupleNode",
            "content": [json_node("true")],
        }
        return {
            **{key: schema[key] for key in ("protocol", "_skops_version")},
            "__class__": "system",
            "__module__": "os",
            "__loader__": "ConstructorFromReduceNode",
            "content": content,
        }

    forge(path, schema=call)
    assert "os.system" in refused(path)


def test_load_refuses_unknown_kinds_of_custom_node_by_name(file):
    path = file(ImageFeaturizer())

    def rename(schema):
        schema["content"]["content"][0]["content"] = '"Backdoor"'

    forge(path, schema=rename)
    assert "nodes of the kinds ['Backdoor'], which this sktransfer does not know: nothing was loaded" in refused(path)


@pytest.mark.parametrize("loader", ["FunctionNode", "ObjectNode", "TypeNode", "ListNode", "TupleNode"])
def test_load_refuses_custom_node_with_other_loader(file, loader):
    path = file(ImageFeaturizer())
    forge(path, schema=lambda schema: schema.update({"__loader__": loader}))
    assert f"{loader} of a CustomNode" in refused(path)


def test_load_refuses_objects_that_are_not_estimators(file):
    path = file(LogisticRegression())
    forge(path, schema=lambda schema: {**json_node("text"), "protocol": 2, "_skops_version": "0"})
    assert "holds a str, which is not an estimator" in refused(path)


def test_load_trusted_takes_names(file):
    path = file(LogisticRegression())
    with pytest.raises(InvalidParameterError, match="must be names of types"):
        load(path, trusted=[LogisticRegression])
    assert load(path, trusted="sklearn.tree._tree.Tree").C == 1.0


def test_load_warns_of_other_scikit_learn_version(file):
    path = file(ImageFeaturizer())
    forge(path, manifest=lambda manifest: manifest["versions"].update({"scikit-learn": "1.2.3"}))
    with pytest.warns(SktransferWarning, match=r"saved with scikit-learn 1\.2\.3, and this is"):
        load(path)


def truncated(content):
    return content[:-1]


def endless(content):
    return (2**62).to_bytes(8, "little") + content[8:]


def misplaced(content):
    return content.replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1)


def wide(content):
    return content.replace(b'"shape":[', b'"shape":[9', 1)


@pytest.mark.parametrize(
    "change", [truncated, endless, misplaced, wide, lambda content: b"", lambda content: bytes(99)]
)
def test_load_refuses_damaged_safetensors(file, change):
    path = file(fitted("FineTuneRegressor"))
    forge(path, weights=change)
    assert "weights.safetensors cannot be read" in refused(path)


def changed_tensors(change):
    def of(content):
        tensors = safetensors.torch.load(content)
        change(tensors)
        return safetensors.torch.save({name: value.clone() for name, value in tensors.items()})

    return of


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.clear(), "lack"),
        (lambda tensors: tensors.update({name: value[:1] for name, value in tensors.items() if value.ndim}), "must be"),
        (lambda tensors: tensors.update({name: value.double() for name, value in tensors.items()}), "must be"),
        (lambda tensors: tensors.update({name: value + 1 for name, value in tensors.items()}), "fingerprint is"),
        (lambda tensors: tensors.update({name + "x": value for name, value in tensors.items()}), "hold unexpected"),
    ],
)
def test_load_refuses_weights_that_do_not_fit_the_network(file, change, message):
    path = file(fitted("FineTuneRegressor"))
    forge(path, weights=changed_tensors(change))
    assert message in refused(path)


def test_load_refuses_backbone_with_other_fingerprint_and_names_both(file):
    path = file(ImageFeaturizer().fit(np.zeros((1, 8, 8))))
    fingerprint = sktransfer.load_backbone("tiny/cnn").fingerprint()

    def other(schema):
        (backbone,) = node_data(schema, "Backbone")
        backbone["fingerprint"] = json_node("0" * 40)

    forge(path, schema=other)
    message = refused(path)
    assert f"its fingerprint is {fingerprint}, expected {'0' * 40}" in message
    assert "weights='embed'" in message


SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)


@SETTINGS
@given(data=st.data())
def test_load_of_fuzzed_file_succeeds_or_raises_load_error(data, tmp_path_factory):
    def choose(n):
        return data.draw(st.integers(0, n - 1))

    name, content = originals()[choose(len(originals()))]
    changed = (flipped if choose(4) == 0 else forged)(content, choose)
    result = outcome(changed, tmp_path_factory.getbasetemp() / "changed.skt")
    assert result in ("ok", "refused"), f"{name}: {result}"


def test_fuzz_main_counts_outcomes(capsys):
    counts = main(2.0, seed=1)
    assert counts["tried"] == counts["refused"] + counts["ok"] > 5
    assert counts["refused"] > 0
    assert "wrong 0, slow 0" in capsys.readouterr().out


def test_fuzz_main_counts_other_exceptions_as_wrong(monkeypatch):
    def broken(*args):
        raise KeyError("something else")

    originals()
    monkeypatch.setattr("sktransfer.persistence.api.read_tree", broken)
    assert main(0.5, seed=1)["wrong"] > 0
