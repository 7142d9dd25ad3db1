"""Class names, descriptions, templates, and the check of known labels."""

from __future__ import annotations

import numpy as np
import pytest

from sktransfer.classifiers.descriptions import check_known_labels, class_names, class_texts
from sktransfer.exceptions import InvalidParameterError


def test_class_texts_are_in_the_order_of_class_names():
    labels = {"dog": "a dog", "cat": ["a cat", "a kitten"]}
    assert class_names(labels).tolist() == ["cat", "dog"]
    assert class_texts(labels, "{}") == [["a cat", "a kitten"], ["a dog"]]
    assert class_texts({9: "nine", 2: "two"}, "{}") == [["two"], ["nine"]]


def test_class_texts_of_classes_without_descriptions_are_their_names():
    assert class_texts(["dog", "cat"], "a photo of a {}") == [["a photo of a cat"], ["a photo of a dog"]]
    assert class_texts(np.array([3, 1]), "number {}") == [["number 1"], ["number 3"]]


def test_class_texts_has_one_text_per_template_and_keeps_other_braces():
    assert class_texts(["a", "b"], ["{} {x}", "so {}"]) == [["a {x}", "so a"], ["b {x}", "so b"]]


@pytest.mark.parametrize("labels", ["sports", 3, {"one": "a text"}, [], ["a", "a"], None])
def test_class_names_requires_two_distinct_classes(labels):
    with pytest.raises(InvalidParameterError, match=r"labels=.* must (be|name) .*a dict \{class: description\} or a"):
        class_names(labels)


@pytest.mark.parametrize("description", ["", "  ", [], 3, ["a", 3], None])
def test_class_texts_error_names_the_class_without_description(description):
    with pytest.raises(InvalidParameterError, match=r"labels: 'b' is described by .*; give a text, or a list"):
        class_texts({"a": "a text", "b": description}, "{}")


@pytest.mark.parametrize("template", ["no place", [], 3, ["{}", "none"], None])
def test_class_texts_requires_a_placeholder_in_template(template):
    with pytest.raises(InvalidParameterError, match=r"template=.* must be a text that holds '\{\}'"):
        class_texts(["a", "b"], template)


def test_check_known_labels_returns_known_labels():
    assert check_known_labels([2, 1, 2], np.array([1, 2]), kind="numbers", hint=".").tolist() == [2, 1, 2]


@pytest.mark.parametrize(
    ("label", "hint"),
    [
        ("Ant", r"Did you mean 'ant'\?"),
        ("annt", r"Did you mean 'ant'\?"),
        ("zebra", r"`classes_` lists them all: so\."),
    ],
)
def test_check_known_labels_hints_at_similar_classes(label, hint):
    with pytest.raises(InvalidParameterError, match=rf"y holds '{label}', which is none of the 2 kinds\. ?.*{hint}"):
        check_known_labels(["bee", label], np.array(["ant", "bee"]), kind="kinds", hint=": so.")


@pytest.mark.parametrize(("y", "classes", "convert"), [(["1", "0"], [0, 1], int), ([1, 0], ["0", "1"], str)])
def test_check_known_labels_tells_types_apart(y, classes, convert):
    with pytest.raises(InvalidParameterError, match=rf"of type .*, and the class .*\[{convert.__name__}\(label\) for"):
        check_known_labels(y, np.array(classes), kind="kinds", hint=".")
    assert len(check_known_labels([convert(label) for label in y], np.array(classes), kind="kinds", hint=".")) == 2


@pytest.mark.parametrize("labels", [{1: "good", "a": "bad"}, ["good", 1], {None: "good", "a": "bad"}, [("a", 1), "b"]])
def test_class_names_are_of_one_type(labels):
    with pytest.raises(InvalidParameterError, match="must name classes of one type"):
        class_names(labels)


def test_class_names_keep_the_type_of_the_classes():
    assert class_names({True: "good", False: "bad"}).tolist() == [False, True]
    assert class_names([2.5, 1]).tolist() == [1.0, 2.5]
