"""Names, descriptions and templates as texts."""

from __future__ import annotations

import numpy as np
import pytest

from sktransfer.classifiers.descriptions import classes_of, texts_of
from sktransfer.exceptions import InvalidParameterError


def test_texts_stand_in_the_order_of_the_classes():
    labels = {"dog": "a dog", "cat": ["a cat", "a kitten"]}
    assert classes_of(labels).tolist() == ["cat", "dog"]
    assert texts_of(labels, "{}") == [["a cat", "a kitten"], ["a dog"]]
    assert texts_of({9: "nine", 2: "two"}, "{}") == [["two"], ["nine"]]


def test_classes_alone_describe_themselves():
    assert texts_of(["dog", "cat"], "a photo of a {}") == [["a photo of a cat"], ["a photo of a dog"]]
    assert texts_of(np.array([3, 1]), "number {}") == [["number 1"], ["number 3"]]


def test_several_templates_give_a_text_each_and_leave_other_braces_alone():
    assert texts_of(["a", "b"], ["{} {x}", "so {}"]) == [["a {x}", "so a"], ["b {x}", "so b"]]


@pytest.mark.parametrize("labels", ["sports", 3, {"one": "a text"}, [], ["a", "a"], None])
def test_less_than_two_classes_each_once_is_an_error(labels):
    with pytest.raises(InvalidParameterError, match=r"labels=.* must (be|name) .*a dict \{class: description\} or a"):
        classes_of(labels)


@pytest.mark.parametrize("said", ["", "  ", [], 3, ["a", 3], None])
def test_a_class_without_description_is_an_error_that_names_it(said):
    with pytest.raises(InvalidParameterError, match=r"labels: 'b' is described by .*; give a text, or a list"):
        texts_of({"a": "a text", "b": said}, "{}")


@pytest.mark.parametrize("template", ["no place", [], 3, ["{}", "none"], None])
def test_a_template_has_a_place_for_the_description(template):
    with pytest.raises(InvalidParameterError, match=r"template=.* must be a text that holds '\{\}'"):
        texts_of(["a", "b"], template)
