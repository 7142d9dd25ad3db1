"""Scores by name, and those that plugins add."""

from __future__ import annotations

import numpy as np
import pytest

from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection.scores import BUILT_IN, Score, resolve_scores
from tests.helpers.plugin_zoo_fixtures import plugin, use  # noqa: F401

HEAD = """from sktransfer import hookimpl
@hookimpl
def sktransfer_transferability_scores():
    from sktransfer.selection.scores import Score
    return """


def test_scores_come_in_the_order_asked_for():
    assert [score.name for score in resolve_scores(["knn", "h_score"], "classes")] == ["knn", "h_score"]
    assert [score.name for score in resolve_scores("logme", "numbers")] == ["logme"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_score_shipped_gives_a_float_for_each_kind_of_target_that_it_names(name):
    rng = np.random.default_rng(0)
    values = rng.dirichlet(np.ones(4), 30)
    targets = {"classes": np.arange(30) % 3, "numbers": np.arange(30), "multilabel": (values > 0.3).astype(int)}
    for kind in BUILT_IN[name].targets:
        assert isinstance(BUILT_IN[name](values, targets[kind], kind), float)


@pytest.mark.parametrize(
    ("metrics", "kind", "match"),
    [
        (["hscore"], "classes", "there is no score 'hscore'.*Did you mean 'h_score'"),
        ([], "classes", "at least one score"),
        (["knn", "knn"], "classes", "each once"),
        (["h_score", "leep"], "numbers", r"none is defined where y holds numbers; \['knn', 'logme'\] are"),
    ],
)
def test_what_is_no_score_is_an_error(metrics, kind, match):
    with pytest.raises(InvalidParameterError, match=match):
        resolve_scores(metrics, kind)


def test_a_plugin_adds_a_score_and_a_broken_one_leaves_it_alone(plugin, use):  # noqa: F811
    good = HEAD + "[Score(name='acme/width', function=lambda Z, y, target: Z.shape[1], targets=('numbers',))]\n"
    use(
        plugin("acme", good),
        plugin("broken", HEAD + "1 / 0\n"),
        plugin("stranger", HEAD + "[Score(name='width', function=len)]\n"),
        plugin("odd", HEAD + "[len]\n"),
    )
    (score,) = resolve_scores(["acme/width"], "numbers")
    assert score(np.zeros((3, 7)), np.zeros(3), "numbers") == 7
    with pytest.raises(InvalidParameterError) as told:
        resolve_scores(["acme/widht"], "numbers")
    message = str(told.value)
    assert "Did you mean 'acme/width'" in message
    assert "ZeroDivisionError" in message
    assert "'width' lacks the prefix 'stranger/'" in message
    assert "'odd' must give Score objects, not builtin_function_or_method" in message


def test_no_plugin_is_asked_for_a_score_that_is_shipped(monkeypatch):
    monkeypatch.setattr("sktransfer.selection.scores.plugin_scores", lambda: pytest.fail("asked"))
    assert resolve_scores(["knn"], "classes")


def test_a_score_gives_a_float():
    assert Score(name="acme/n", function=lambda Z, y, target: np.int64(3))(np.zeros(1), np.zeros(1), "classes") == 3.0
