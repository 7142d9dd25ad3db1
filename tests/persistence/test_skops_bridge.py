from __future__ import annotations

import importlib
import io
import json
import re
import threading
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import Birch
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, StandardScaler
from sklearn.svm import SVC

from sktransfer import load, save
from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.skops_bridge import (
    CustomNode,
    check_tree,
    iter_nodes,
    read_tree,
    trusted_types,
    untrusted_types,
    write_tree,
)
from tests.helpers.forged_files import SCHEMA, forge, json_node, unzip, zip_members


class Ours:
    def __init__(self, inner):
        self.inner = inner


def encode(obj):
    return ("Ours", {"inner": obj.inner}) if type(obj) is Ours else None


def build(kind, data):
    return Ours(data["inner"])


def round_trip(obj, trusted=()):
    return read_tree(write_tree(obj, encode), build, {"Ours"}, trusted)


def test_custom_node_is_built_only_while_a_tree_is_read():
    threads = []

    def observe(kind, data):
        thread = threading.Thread(target=lambda: threads.append(CustomNode("Ours", {"inner": 3})))
        thread.start()
        thread.join()
        return Ours(data["inner"])

    assert isinstance(CustomNode("Ours", {"inner": 3}), CustomNode)
    assert read_tree(write_tree(Ours(2), encode), observe, {"Ours"}, []).inner == 2
    assert isinstance(threads[0], CustomNode)  # the context of another thread is not affected
    assert isinstance(CustomNode("Ours", {"inner": 3}), CustomNode)


def test_read_tree_builds_nested_and_shared_custom_nodes():
    shared = Ours(np.arange(3))
    again = round_trip([Ours({"deep": (shared, Ours(LogisticRegression(C=3.0)))}), {"also": shared}])
    deep = again[0].inner["deep"]
    assert np.array_equal(deep[0].inner, np.arange(3))
    assert deep[1].inner.C == 3.0
    assert again[1]["also"] is deep[0]


def test_read_tree_builds_custom_nodes_in_object_arrays():
    held = np.ma.MaskedArray(np.array([Ours(1), None], dtype=object), [False, True])
    again = round_trip(held)
    assert again[0].inner == 1
    assert again.mask.tolist() == [False, True]


def test_write_tree_does_not_change_the_object():
    values = np.random.default_rng(0).random((50, 4))
    given = make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()).fit(values, [0, 1] * 25)
    before = given[-1].coef_
    again = round_trip(given)
    assert given[-1].coef_ is before
    assert np.array_equal(again.predict_proba(values), given.predict_proba(values))
    assert again[-1].coef_.flags.writeable


def test_write_tree_writes_counters_instead_of_addresses():
    schema = json.loads(unzip(write_tree([1.5, "x", {"a": np.arange(2)}], encode))[SCHEMA])
    assert schema["__id__"] == 1
    assert schema["content"][2]["content"]["a"]["file"] == "0.npy"


def test_untrusted_types_and_trusted():
    tree = write_tree([np.float64, test_untrusted_types_and_trusted], encode)
    assert untrusted_types(tree) == [f"{__name__}.test_untrusted_types_and_trusted"]
    assert untrusted_types(tree, untrusted_types(tree)) == []
    with pytest.raises(LoadError, match="not known to be safe"):
        read_tree(tree, build, {"Ours"}, [])
    assert round_trip([test_untrusted_types_and_trusted], untrusted_types(tree))[0] is test_untrusted_types_and_trusted


@pytest.mark.parametrize("keys", [{True: 1}, {None: 1}, {np.True_: 1}])
def test_write_tree_refuses_dict_keys_that_json_changes(keys):
    with pytest.raises(SaveError, match="a dict with keys of type"):
        write_tree([keys], encode)


def test_write_tree_error_names_joblib():
    with pytest.raises(SaveError, match=r"list\[0\], a generator, cannot be saved without pickle .*or use joblib.dump"):
        write_tree([(i for i in range(3))], encode)


def test_write_tree_error_names_the_step():
    search = GridSearchCV(FunctionTransformer(lambda values: values), {"validate": [True]})
    for part, message in (
        (Birch(), "Pipeline.steps['part'], a Birch, cannot be saved"),
        (search, "Pipeline.steps['part'].estimator.func, a function, cannot be saved"),
    ):
        with pytest.raises(SaveError, match=re.escape(message)):
            write_tree(Pipeline([("scale", StandardScaler()), ("part", part)]), encode)


@pytest.mark.parametrize("tree", [b"", b"text"])
def test_read_tree_refuses_other_content(tree):
    with pytest.raises(LoadError, match="its tree of objects is damaged"):
        read_tree(tree, build, set(), [])


def tree_of(schema, **arrays):
    return zip_members({SCHEMA: json.dumps(schema).encode(), **arrays})


def list_node(content, number):
    node = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": content}
    return {**node, "__id__": number}


def npy_bytes(values):
    out = io.BytesIO()
    np.save(out, values, allow_pickle=False)
    return out.getvalue()


def array_node(number, name="0.npy"):
    node = {"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode", "type": "numpy"}
    return {**node, "file": name, "__id__": number}


def test_iter_nodes_yields_outer_nodes_first():
    schema = list_node([{**json_node(1), "__id__": 2}, list_node([], 3)], 1)
    assert [node["__id__"] for node in iter_nodes(schema)] == [1, 2, 3]


def test_check_tree_refuses_exponential_expansion():
    schema = list_node([], 1)
    for number in range(2, 80):
        schema = list_node([schema, {"__id__": number - 1, "__loader__": "ListNode"}], number)
    with pytest.raises(LoadError, match="would not end"):
        check_tree(tree_of(schema), set())


def test_check_tree_refuses_nodes_within_themselves():
    schema = list_node([list_node([{"__id__": 1, "__loader__": "ListNode"}], 2)], 1)
    with pytest.raises(LoadError, match="an object within itself"):
        check_tree(tree_of(schema), set())


def test_check_tree_accepts_shared_objects():
    shared = list_node([{**json_node(1), "__id__": 9}], 2)
    check_tree(tree_of(list_node([shared, shared], 1)), set())


@pytest.mark.parametrize("number", ["1", 1.0, True, 0, -1, None, []])
def test_check_tree_requires_positive_int_ids(number):
    with pytest.raises(LoadError, match="an id that is not a positive int"):
        check_tree(tree_of(list_node([], number)), set())


def test_check_tree_compares_size_of_arrays_with_header():
    check_tree(tree_of(list_node([array_node(2)], 1), **{"0.npy": npy_bytes(np.zeros((3, 4)))}), set())
    good = npy_bytes(np.zeros((300, 400)))
    for bad in (
        good.replace(b"(300, 400)", b"(300, 401)"),
        good[:-1],
        good.replace(b"(300, 400)", b"(-30, 400)"),
        npy_bytes(np.zeros(3000, dtype="V1")).replace(b"|V1", b"|V0"),
        good.replace(b"<f8", b"|O8"),
    ):
        with pytest.raises(LoadError, match="claims"):
            check_tree(tree_of(list_node([array_node(2)], 1), **{"0.npy": bad}), set())


def test_check_tree_refuses_other_npy_versions():
    content = bytearray(npy_bytes(np.zeros(3)))
    content[6] = 3
    with pytest.raises(LoadError, match="header of version"):
        check_tree(tree_of(list_node([array_node(2)], 1), **{"0.npy": bytes(content)}), set())


def test_check_tree_refuses_objects_that_share_a_member():
    schema = list_node([array_node(2), array_node(3)], 1)
    with pytest.raises(LoadError, match="several objects of its tree claim the member"):
        check_tree(tree_of(schema, **{"0.npy": npy_bytes(np.zeros(3))}), set())


def test_load_refuses_random_state_nodes_of_skops(tmp_path):
    save(LogisticRegression(), tmp_path / "one")

    def change(schema):
        schema["content"]["content"]["C"] = {**json_node(1), "__loader__": "RandomStateNode"}

    forge(tmp_path / "one", schema=change)
    with pytest.raises(LoadError, match="RandomStateNode"):
        load(tmp_path / "one")


@pytest.mark.parametrize("blanks", [0, 10_000])
def test_check_tree_refuses_compressed_members(blanks):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(SCHEMA, json.dumps(list_node([], 1)) + " " * blanks)
    with pytest.raises(LoadError, match="compressed, overlap"):
        check_tree(out.getvalue(), set())


def test_check_tree_requires_schema_to_be_an_object():
    with pytest.raises(LoadError, match="is a list"):
        check_tree(tree_of([1]), set())


LINEAR = LogisticRegression(max_iter=200)


def untrusted_after_fit(estimator):
    return untrusted_types(write_tree(estimator.fit(*load_iris(return_X_y=True)), lambda obj: None))


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize(
    "estimator",
    [
        LINEAR,
        SVC(),
        SGDClassifier(),
        KNeighborsClassifier(algorithm="brute"),
        MLPClassifier(max_iter=2),
        MLPClassifier(max_iter=2, solver="sgd"),
        CalibratedClassifierCV(LINEAR, cv=2),
        VotingClassifier([("a", LINEAR)]),
        StackingClassifier([("a", LINEAR)], cv=2),
        GridSearchCV(LINEAR, {"C": [1.0]}, cv=2),
        GridSearchCV(LINEAR, {"C": [1.0]}, cv=RepeatedStratifiedKFold(n_splits=2, n_repeats=1), scoring="f1_macro"),
        GridSearchCV(LINEAR, {"C": [1.0]}, cv=2, scoring=["accuracy", "neg_log_loss"], refit="accuracy"),
        KBinsDiscretizer(quantile_method="averaged_inverted_cdf"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_trusted_types_cover_common_estimators(estimator):
    assert untrusted_after_fit(estimator) == []


@pytest.mark.parametrize("estimator", [RandomForestClassifier(1), HistGradientBoostingClassifier(max_iter=1)])
def test_trees_of_scikit_learn_are_untrusted(estimator):
    assert len(untrusted_after_fit(estimator)) == 1


def test_trusted_types_exist_in_numpy_or_scikit_learn():
    for name in trusted_types():
        module, _, attribute = name.rpartition(".")
        assert module.split(".")[0] in ("numpy", "sklearn")
        assert hasattr(importlib.import_module(module), attribute), name


def test_trusted_types_are_not_repeated():
    tree = skops.io.dumps([1])
    assert skops.io.get_untrusted_types(data=tree) == []
    assert len(set(trusted_types())) == len(trusted_types())
