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
from tests.helpers.forged_files import forge, parts, plain
from tests.helpers.saved_estimators import made


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


def named(module, name):
    """Return a change of a tree that makes its root an object of another type."""

    def change(schema):
        schema["__module__"], schema["__class__"] = module, name

    return change


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("builtins", "eval"), ("subprocess", "Popen"), ("antigravity", "Fly"), ("numpy", "save")],
)
def test_types_that_are_not_known_are_refused_by_name_and_never_imported(file, module, name):
    path = file(LogisticRegression())
    forge(path, schema=named(module, name))
    assert f"it holds ['{module}.{name}'], which is not known to be safe, so nothing was loaded" in refused(path)
    assert "antigravity" not in sys.modules


def test_skops_nodes_that_call_what_the_file_names_are_refused(file):
    path = file(LogisticRegression())

    def call(schema):
        content = {
            "__class__": "tuple",
            "__module__": "builtins",
            "__loader__": "TupleNode",
            "content": [plain("true")],
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


def test_parts_that_are_not_known_are_refused_by_name(file):
    path = file(ImageFeaturizer())

    def rename(schema):
        schema["content"]["content"][0]["content"] = '"Backdoor"'

    forge(path, schema=rename)
    assert "parts of the kinds ['Backdoor'], which this sktransfer does not know: nothing was loaded" in refused(path)


@pytest.mark.parametrize("loader", ["FunctionNode", "ObjectNode", "TypeNode", "ListNode", "TupleNode"])
def test_a_part_is_made_in_no_other_way(file, loader):
    path = file(ImageFeaturizer())
    forge(path, schema=lambda schema: schema.update({"__loader__": loader}))
    assert f"{loader} of a part" in refused(path)


def test_a_file_that_holds_no_estimator_is_refused(file):
    path = file(LogisticRegression())
    forge(path, schema=lambda schema: {**plain("text"), "protocol": 2, "_skops_version": "0"})
    assert "holds a str, which is no estimator" in refused(path)


def test_trusted_takes_names(file):
    path = file(LogisticRegression())
    with pytest.raises(InvalidParameterError, match="must be names of types"):
        load(path, trusted=[LogisticRegression])
    assert load(path, trusted="sklearn.tree._tree.Tree").C == 1.0


def test_another_version_of_scikit_learn_is_warned_of(file):
    path = file(ImageFeaturizer())
    forge(path, manifest=lambda manifest: manifest["versions"].update({"scikit-learn": "1.2.3"}))
    with pytest.warns(SktransferWarning, match=r"saved with scikit-learn 1\.2\.3, and this is"):
        load(path)


def cut(content):
    return content[:-1]


def endless(content):
    return (2**62).to_bytes(8, "little") + content[8:]


def misplaced(content):
    return content.replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1)


def wide(content):
    return content.replace(b'"shape":[', b'"shape":[9', 1)


@pytest.mark.parametrize("change", [cut, endless, misplaced, wide, lambda content: b"", lambda content: bytes(99)])
def test_damaged_safetensors_are_refused(file, change):
    path = file(made("FineTuneRegressor"))
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
        (lambda tensors: tensors.update({name + "x": value for name, value in tensors.items()}), "which it has not"),
    ],
)
def test_other_weights_than_the_network_has_are_refused(file, change, message):
    path = file(made("FineTuneRegressor"))
    forge(path, weights=changed_tensors(change))
    assert message in refused(path)


def test_a_backbone_of_another_hash_is_refused_and_both_are_named(file):
    path = file(ImageFeaturizer().fit(np.zeros((1, 8, 8))))
    found = sktransfer.load_backbone("tiny/cnn").fingerprint()

    def other(schema):
        (backbone,) = parts(schema, "Backbone")
        backbone["fingerprint"] = plain("0" * 40)

    forge(path, schema=other)
    message = refused(path)
    assert f"its fingerprint is {found}, expected {'0' * 40}" in message
    assert "weights='embed'" in message


SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)


@SETTINGS
@given(data=st.data())
def test_whatever_is_changed_in_a_file_it_is_loaded_or_refused(data, tmp_path_factory):
    def choose(n):
        return data.draw(st.integers(0, n - 1))

    name, content = originals()[choose(len(originals()))]
    changed = (flipped if choose(4) == 0 else forged)(content, choose)
    found = outcome(changed, tmp_path_factory.getbasetemp() / "changed.skt")
    assert found in ("ok", "refused"), f"{name}: {found}"


def test_a_long_run_counts_what_it_has_tried(capsys):
    counts = main(2.0, seed=1)
    assert counts["tried"] == counts["refused"] + counts["ok"] > 5
    assert counts["refused"] > 0
    assert "wrong 0, slow 0" in capsys.readouterr().out


def test_what_is_wrong_is_seen(monkeypatch):
    def broken(tree, loading, trusted):
        raise KeyError("something else")

    originals()
    monkeypatch.setattr("sktransfer.persistence.loading.read_tree", broken)
    assert main(0.5, seed=1)["wrong"] > 0
