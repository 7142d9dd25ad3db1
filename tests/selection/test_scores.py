"""Table of scores by name, and scores of plugins."""

from __future__ import annotations

import numpy as np
import pytest

from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection.scores import BUILT_IN, Score, resolve_scores
from sktransfer.selection.validation import TARGET_TYPES
from tests.helpers.plugin_zoo_fixtures import plugin, use  # noqa: F401

HEAD = """from sktransfer import hookimpl
@hookimpl
def sktransfer_transferability_scores():
    from sktransfer.selection.scores import Score
    return """


def test_resolve_scores_keeps_the_order_of_metrics():
    assert [score.name for score in resolve_scores(["knn", "h_score"], "multiclass")] == ["knn", "h_score"]
    assert [score.name for score in resolve_scores("logme", "continuous")] == ["logme"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_score_returns_a_float_for_each_of_its_targets(name):
    rng = np.random.default_rng(0)
    values = rng.dirichlet(np.ones(4), 30)
    targets = {"classes": np.arange(30) % 3, "numbers": np.arange(30), "multilabel": (values > 0.3).astype(int)}
    for target in BUILT_IN[name].targets:
        assert BUILT_IN[name].supports(TARGET_TYPES[target])
        assert isinstance(BUILT_IN[name](values, targets[target], TARGET_TYPES[target]), float)


@pytest.mark.parametrize(
    ("metrics", "target_type", "match"),
    [
        (["hscore"], "multiclass", "there is no score 'hscore'.*Did you mean 'h_score'"),
        ([], "multiclass", "at least one score"),
        (["knn", "knn"], "multiclass", "each once"),
        (["h_score", "leep"], "continuous", r"none is defined for y .* continuous.*; choose from \['knn', 'logme'\]"),
    ],
)
def test_resolve_scores_checks_metrics(metrics, target_type, match):
    with pytest.raises(InvalidParameterError, match=match):
        resolve_scores(metrics, target_type)


def test_resolve_scores_finds_a_plugins_score_although_another_plugin_is_broken(plugin, use):  # noqa: F811
    good = HEAD + "[Score(name='acme/width', function=lambda Z, y, target: Z.shape[1], targets=('numbers',))]\n"
    use(
        plugin("acme", good),
        plugin("broken", HEAD + "1 / 0\n"),
        plugin("stranger", HEAD + "[Score(name='width', function=len)]\n"),
        plugin("odd", HEAD + "[len]\n"),
    )
    (score,) = resolve_scores(["acme/width"], "continuous")
    assert score(np.zeros((3, 7)), np.zeros(3), "continuous") == 7
    with pytest.raises(InvalidParameterError) as caught:
        resolve_scores(["acme/widht"], "continuous")
    message = str(caught.value)
    assert "Did you mean 'acme/width'" in message
    assert "ZeroDivisionError" in message
    assert "'width' lacks the prefix 'stranger/'" in message
    assert "'odd' must give Score objects, not builtin_function_or_method" in message


def test_resolve_scores_loads_no_plugin_for_a_built_in_score(monkeypatch):
    monkeypatch.setattr("sktransfer.selection.scores.plugin_scores", lambda: pytest.fail("asked"))
    assert resolve_scores(["knn"], "multiclass")


def test_score_call_returns_a_float():
    assert (
        Score(name="acme/n", function=lambda Z, y, target: np.int64(3))(np.zeros(1), np.zeros(1), "multiclass") == 3.0
    )


def test_score_functions_get_the_words_of_the_parameter_target():
    words = []
    score = Score(name="acme/n", function=lambda Z, y, target: len(words.append(target) or words), targets=("numbers",))
    assert score(np.zeros(1), np.zeros(1), "continuous") == 1
    assert words == ["numbers"]
    assert not score.supports("multiclass")
