from __future__ import annotations

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from sktransfer.persistence.parts import find_part_of_type, iter_parts, locate_part


def test_iter_parts_names_attributes_items_and_steps():
    inner = LogisticRegression()
    assert [name for name, _ in iter_parts(Pipeline([("a", inner)]))] == [".steps"]
    assert list(iter_parts([("a", inner, [0])])) == [("['a']", inner), ("['a']", [0])]
    assert list(iter_parts({"b": inner, 3: 1})) == [("['b']", inner)]
    assert list(iter_parts(np.array([inner, None], dtype=object))) == [("[0]", inner)]
    assert list(iter_parts(np.arange(3))) == []


def test_locate_part_descends_to_the_innermost_part_and_ends_in_circles():
    circle = LogisticRegression()
    circle.owner = [circle]
    assert locate_part({"a": [circle]}, lambda part: True, lambda part: False) == ("dict['a'][0].owner", circle.owner)
    label, part = locate_part({"a": [circle]}, lambda part: True, lambda part: isinstance(part, list))
    assert (label, part) == ("dict['a']", [circle])


def test_find_part_of_type():
    fitted = Pipeline([("boost", GradientBoostingClassifier(n_estimators=1))]).fit(np.eye(4), [0, 1, 0, 1])
    expected = "Pipeline.steps['boost'].estimators_[0].tree_"
    assert find_part_of_type(fitted, {"sklearn.tree._tree.Tree"}) == expected
    assert find_part_of_type({"f": np.mean}, {"numpy.mean"}) == "dict['f']"
    assert find_part_of_type(fitted, {"no.Type"}) is None
