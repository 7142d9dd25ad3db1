"""FineTuneTagger: a tag for each word, whatever the sentence, and the conventions of scikit-learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from peft import LoraConfig
from scipy.special import softmax
from sklearn.base import clone
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import EpochScoring

import sktransfer
from sktransfer import (
    Checkpoint,
    FineTuneTagger,
    MicroBatches,
    TokenFeaturizer,
    clear_cache,
    load_backbone,
    span_f1_score,
)
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError, TargetWarning, ValidationWarning
from sktransfer.finetuning.arguments import FitArguments
from tests.helpers.small_bert import WORDS, small_bert

BERT = "hf/" + small_bert()
NOUNS = set(WORDS.split()[::2])


def sentences(n=24, longest=8, seed=0):
    rng = np.random.default_rng(seed)
    X = [rng.choice(WORDS.split(), rng.integers(1, longest)).tolist() for _ in range(n)]
    return X, [["NOUN" if word in NOUNS else "OTHER" for word in words] for words in X]


X, Y = sentences()
MAJORITY = np.mean([tag == "OTHER" for tags in Y for tag in tags])
LONG = [X[0] * 20, X[1], [], X[2] * 9]  # the network reads 24 tokens
RECIPES = {
    "plain": {},
    "random head": {"head_init": "random", "layer": -1, "max_epochs": 20},
    "class means": {"head_init": "class_means"},
    "gradual, discriminative": {"unfreezing": "gradual", "layer_lr_decay": 2.6},
    "balanced": {"class_weight": "balanced"},
    "multi-margin loss": {"criterion": torch.nn.MultiMarginLoss},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.25},
    "in parts": {"callbacks": [MicroBatches(4)]},
    "all layers mixed": {"layer": "mix"},
    "mean of pieces": {"subword": "mean"},
    "adapter": {"adapter": LoraConfig(r=2, target_modules="all-linear")},
}


def fitted(X=X, y=Y, fit=None, **params):
    options = {"freeze_depth": 2, "max_epochs": 4, "batch_size": 8, "lr": 1e-3, "random_state": 0}
    return FineTuneTagger(BERT, **{**options, **params}).fit(X, y, **(fit or {}))


@pytest.fixture(scope="module")
def tagger():
    return fitted()


def stages(backbone):
    return [{name: value.clone() for name, value in stage.state_dict().items()} for stage in backbone.stages]


def frozen(tagger):
    before, after = stages(load_backbone(BERT)), stages(tagger.backbone_)
    return [all(one[name].equal(other[name]) for name in one) for one, other in zip(before, after)]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_learn_repeat_and_keep_frozen_stages_bit_equal(name):
    one, other = (fitted(**RECIPES[name]) for _ in range(2))
    assert one.score(X, Y) > MAJORITY + 0.15
    assert frozen(one)[:2] == [True, True]
    for first, second in zip(one.predict_proba(X), other.predict_proba(X)):
        np.testing.assert_array_equal(first, second)


def test_fit_twice_equals_once(tagger):
    twice = fitted(X[::-1], Y[::-1]).fit(X, Y)
    for first, second in zip(tagger.predict_proba(LONG), twice.predict_proba(LONG)):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("freeze_depth", [2, "all"])
def test_cache_changes_no_bits(freeze_depth):
    clear_cache()
    cached, plain = (fitted(freeze_depth=freeze_depth, layer=[1, 2], cache=cache) for cache in ("memory", None))
    for first, second in zip(cached.predict_proba(X), plain.predict_proba(X)):
        np.testing.assert_array_equal(first, second)


def test_predict_of_a_sentence_does_not_depend_on_the_others(tagger):
    together = tagger.predict_proba(LONG)
    for sentence, expected in zip(LONG, together):
        np.testing.assert_allclose(tagger.predict_proba([sentence])[0], expected, atol=1e-6)


def test_predict_gives_as_many_tags_as_words(tagger):
    odd = [["\u200e", "", "film", "plot", "is"], [], ["film"] * 200, ["a", "(", "film", "\ud800", "x" * 300]]
    assert [len(tags) for tags in tagger.predict(odd)] == [5, 0, 200, 5]
    probabilities = tagger.predict_proba(odd)
    assert [one.shape for one in probabilities] == [(5, 2), (0, 2), (200, 2), (5, 2)]
    np.testing.assert_allclose(np.concatenate(probabilities).sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("subword", ["first", "last", "mean"])
@pytest.mark.parametrize("layer", [-1, [1, 3]])
def test_head_gives_predictions_from_features_of_words(subword, layer):
    words = [["unfilmable", "sequels", "of", "anti-heroes"], ["storyboarding", "is", "fun"]]
    tags = [["A", "N", "P", "N"], ["N", "V", "A"]]
    options = {"layer": layer, "subword": subword}
    tagger = FineTuneTagger("tiny/bert", freeze_depth=2, max_epochs=1, lr=1e-4, random_state=0, **options)
    tagger.fit(words, tags)
    features = TokenFeaturizer(tagger.backbone_, **options).fit_transform([words[0] * 80, words[1]])
    for probability, one in zip(tagger.predict_proba([words[0] * 80, words[1]]), features):
        np.testing.assert_allclose(probability, softmax(tagger.head_(one), axis=1), atol=1e-5)


def test_subword_is_the_mean_by_default():
    words, tags = [["unfilmable", "sequels", "of", "anti-heroes"]], [["A", "N", "P", "N"]]
    options = {"max_epochs": 0, "layer": 1, "freeze_depth": "all", "random_state": 0}
    by_default, mean, first = (
        FineTuneTagger("tiny/bert", **options, **params).fit(words, tags).predict_proba(words)[0]
        for params in ({}, {"subword": "mean"}, {"subword": "first"})
    )
    np.testing.assert_array_equal(by_default, mean)
    assert (by_default != first).any()


def test_history_has_the_mean_loss_over_words():
    long = [*LONG, *X[3:10]]
    tags = [["NOUN" if word in NOUNS else "OTHER" for word in words] for words in long]
    tags[1] = [None] * len(tags[1])
    tagger = fitted(long, tags, freeze_depth="all", max_epochs=1, lr=1e-12, layer=-1, batch_size=3)
    losses = [
        -np.log(row[tagger.classes_.tolist().index(tag)])
        for rows, some in zip(tagger.predict_proba(long), tags)
        for row, tag in zip(rows, some)
        if tag is not None
    ]
    assert tagger.history_["train_loss"].item() == pytest.approx(np.mean(losses), rel=1e-4)


def test_fit_takes_lists_arrays_and_series(tagger):
    expected = np.concatenate(tagger.predict_proba(X))
    arrays = np.empty(len(X), dtype=object), np.empty(len(X), dtype=object)
    for row in range(len(X)):
        arrays[0][row], arrays[1][row] = np.array(X[row], dtype=object), tuple(Y[row])
    index = range(5, 5 + len(X))
    for given in (arrays, (pd.Series(X, index), pd.Series(Y, index)), (pd.DataFrame({"words": X}), Y)):
        other = fitted(*given)
        np.testing.assert_array_equal(np.concatenate(other.predict_proba(given[0])), expected)
    assert fitted(pd.DataFrame({"words": X})).feature_names_in_.tolist() == ["words"]


def test_fit_unknown_tags_are_left_out():
    y = [list(tags) for tags in Y]
    y[0][0], y[1][-1] = None, float("nan")
    tagger = fitted(y=y)
    assert tagger.classes_.tolist() == ["NOUN", "OTHER"]
    assert tagger.score(X, y) > MAJORITY + 0.15


@pytest.mark.parametrize(
    ("given", "y", "message"),
    [
        (["a good film"] * 24, Y, "split it into words"),
        (X, [*Y[:3], Y[3][:-1], *Y[4:]], rf"row 3: y has {len(Y[3]) - 1} values?, and X has {len(Y[3])} words?"),
        (X, [*Y[:3], [*Y[3], "NOUN"], *Y[4:]], rf"row 3: y has {len(Y[3]) + 1} values?"),
        (X, Y[:-1], "y has 23 sentences, and X has 24"),
        (X, np.full((24, 9), "NOUN"), r"shape \(24, 9\)"),
        (X, ["NOUN"] * 24, r"y\[0\] is 'NOUN'"),
        (X, [[None] * len(tags) for tags in Y], "no tag that is known"),
        (X, [["NOUN"] * len(tags) for tags in Y], "one class only"),
        (X, [[0.5] * len(tags) for tags in Y], "the tag 0.5 is a float"),
        ([[] for _ in X], [[] for _ in X], "none of them has words"),
        (X, None, "requires y"),
    ],
)
def test_fit_refuses(given, y, message):
    with pytest.raises(ValueError, match=message):
        fitted(given, y)


def test_fit_names_the_index_label():
    with pytest.raises(InvalidSampleError, match="index label 'x3'"):
        fitted(pd.Series([*X[:3], None, *X[4:]], [f"x{row}" for row in range(24)]))
    with pytest.raises(ValueError, match="index label 'x0'"):
        fitted(X, pd.Series([[*Y[0], "NOUN"], *Y[1:]], [f"x{row}" for row in range(24)]))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"subword": "middle"}, "subword='middle'"),
        ({"decode": "IOB2"}, "decode='IOB2'"),
        ({"decode": "iob2"}, r"y has none of these tags but \['NOUN', 'OTHER'\]"),
        ({"backbone": "tiny/cnn"}, "reads images, and a tagger reads words"),
        ({"callbacks": [EpochScoring("accuracy")], "early_stopping": True}, "one per word"),
        ({"class_weight": {"NOUN": 0, "OTHER": 0}}, "class_weight="),
    ],
)
def test_fit_refuses_parameters(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        FineTuneTagger(**{"backbone": BERT, **params}).fit(X, Y)


def test_score_is_the_accuracy_of_known_words(tagger):
    y = [["OTHER"] * len(tags) for tags in Y]
    flat, predicted = (np.array([tag for tags in rows for tag in tags]) for rows in (y, tagger.predict(X)))
    assert tagger.score(X, y) == pytest.approx(np.mean(flat == predicted))
    weight = np.arange(24) % 3
    by_word = np.repeat(weight, list(map(len, X)))
    assert tagger.score(X, y, sample_weight=weight) == pytest.approx(np.average(flat == predicted, weights=by_word))


def test_score_names_unknown_tags(tagger):
    with pytest.warns(ValidationWarning, match=r"did not have, 'NEW': 1 of its words"):
        tagger.score(X, [["NEW"] + Y[0][1:], *Y[1:]])


NAMES = [["B-PER", "I-PER", "O"], ["O", "B-LOC", "I-LOC"], ["B-LOC", "B-PER", "O"]] * 8
THREE = [words[:3] for words in sentences(longest=10, seed=1)[0] if len(words) >= 3]
THREE = (THREE * 3)[:24]


@pytest.mark.parametrize(
    ("tags", "decode", "expected"),
    [
        (NAMES, "auto", "iob2"),
        (NAMES, "argmax", "argmax"),
        ([["S-PER", "O", "O"], ["B-LOC", "E-LOC", "O"], ["O", "O", "S-LOC"]] * 8, "auto", "bioes"),
        ([["I-PER", "I-PER", "O"], ["O", "I-LOC", "O"], ["O", "O", "I-PER"]] * 8, "auto", "argmax"),
        ([["NOUN", "VERB", "O"], ["O", "O", "NOUN"], ["O", "O", "O"]] * 8, "auto", "argmax"),
    ],
)
def test_decode_auto_is_the_scheme_of_y(tags, decode, expected):
    assert fitted(THREE, tags, decode=decode, max_epochs=1).decode_ == expected


def test_decode_iob2_predicts_no_broken_span():
    free, bound = (fitted(THREE, NAMES, decode=decode, max_epochs=0, layer=1) for decode in ("argmax", "iob2"))
    words = sentences(40, seed=3)[0]
    assert len(sktransfer.find_invalid_tags(free.predict(words)))
    assert not len(sktransfer.find_invalid_tags(bound.predict(words)))
    np.testing.assert_array_equal(np.concatenate(free.predict_proba(words)), np.concatenate(bound.predict_proba(words)))


def test_decode_warns_once_of_tags_that_break_the_scheme():
    broken = [["O", "I-PER", "O"], ["I-LOC", "O", "O"], *NAMES[2:]]
    with pytest.warns(TargetWarning, match=r"2 tags of y break IOB2.*y\[0\], position 1: 'I-PER' follows the tag O"):
        fitted(THREE, broken, decode="iob2", max_epochs=1)


def test_fit_warns_of_swapped_x_and_y():
    one, other = WORDS.split()[:2]
    with pytest.warns(TargetWarning, match="y has 3 different tags, and X only 2 different words.*swapped"):
        fitted([[one] * 3, [other] * 3], [["A", "B", "C"]] * 2, max_epochs=0, layer=1)


def test_groups_of_windows_are_their_sentences():
    tags = [["NOUN"] * len(words) for words in LONG]
    tagger = FineTuneTagger(BERT)
    weight = np.array([1.0, 2.0, 3.0, 4.0])
    windows, rows = tagger._read_rows(FitArguments(LONG, tags, weight), load_backbone(BERT), reset=True)
    assert len(windows) > len(LONG)
    np.testing.assert_array_equal(rows.groups, windows.sentence)
    np.testing.assert_array_equal(rows.sample_weight, weight[windows.sentence])
    _, rows = tagger._read_rows(FitArguments(LONG, tags, None, list("abcb")), load_backbone(BERT), reset=True)
    np.testing.assert_array_equal(rows.groups, np.array(list("abcb"))[windows.sentence])


def test_sample_weight_of_zero_equals_a_dropped_sentence():
    weight = np.r_[np.zeros(4), np.full(20, 3.0)]
    one, other = fitted(fit={"sample_weight": weight}), fitted(X[4:], Y[4:])
    np.testing.assert_array_equal(np.concatenate(one.predict_proba(X)), np.concatenate(other.predict_proba(X)))


def test_x_val_gives_loss_and_accuracy_of_words():
    tagger = fitted(fit={"X_val": LONG, "y_val": [["NOUN"] * len(words) for words in LONG]}, max_epochs=1)
    expected = tagger.score(LONG, [["NOUN"] * len(words) for words in LONG])
    assert tagger.history_["valid_acc"].item() == pytest.approx(expected)
    assert np.isfinite(tagger.history_["valid_loss"]).all()
    with pytest.raises(ValueError, match=r"validation data.*row 0: y has 1 value"):
        fitted(fit={"X_val": LONG[:1], "y_val": [["NOUN"]]})


def test_partial_fit_takes_all_classes_in_the_first_call():
    tagger = FineTuneTagger(BERT, layer=-1, freeze_depth=2, lr=1e-3, random_state=0)
    with pytest.raises(ValueError, match="needs classes"):
        tagger.partial_fit(X, Y)
    tagger.partial_fit(X[:12], Y[:12], classes=["NOUN", "OTHER", "RARE"]).partial_fit(X[12:], Y[12:])
    assert tagger.classes_.tolist() == ["NOUN", "OTHER", "RARE"]
    assert len(tagger.history_) == 2
    assert {tag for tags in tagger.predict(X) for tag in tags} <= {"NOUN", "OTHER"}
    with pytest.raises(ValueError, match="not those of the first call"):
        tagger.partial_fit(X, Y, classes=["NOUN"])


def test_warm_start_and_head_continue(tagger):
    again = clone(tagger).set_params(backbone=tagger.backbone_, layer="auto", head=tagger.head_, max_epochs=0)
    again.fit(X, Y)
    np.testing.assert_allclose(
        np.concatenate(again.predict_proba(X)), np.concatenate(tagger.predict_proba(X)), atol=1e-5
    )
    warm = fitted(warm_start=True)
    before = np.concatenate(warm.predict_proba(X))
    warm.set_params(max_epochs=0).fit(X, Y)
    np.testing.assert_allclose(np.concatenate(warm.predict_proba(X)), before, atol=1e-5)


def test_checkpoint_resumes_without_a_seed(tmp_path):
    class Interrupt(Checkpoint):
        def write(self, net):
            super().write(net)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(random_state=None, callbacks=[Interrupt(tmp_path)])
    (kept,) = tmp_path.glob("*.pt")
    assert len(fitted(random_state=None, callbacks=[Checkpoint(tmp_path)]).history_) == 4
    assert not kept.exists()  # found and finished, which takes the same data and the same seed


def test_layer_auto_counts_the_layers_by_stage(tagger):
    assert tagger.layer_.sum() == pytest.approx(1)
    assert tagger.layer_.index.tolist()[-1] == tagger.backbone_.stage_names[-1]
    assert "leave-one-out error" in tagger.report_


def test_freeze_depth_auto_decides_by_held_back_sentences():
    many = sentences(60)
    tagger = fitted(*many, freeze_depth="auto", layer=-1, max_epochs=1)
    assert "held back" in tagger.report_


def test_grid_search_and_cross_val_score_take_lists():
    grid = {"layer": [1, -1], "subword": ["first", "mean"]}
    tagger = FineTuneTagger(BERT, freeze_depth="all", max_epochs=0, random_state=0)
    search = GridSearchCV(tagger, grid, cv=GroupKFold(2)).fit(X, Y, groups=np.arange(24) // 2)
    assert set(search.best_params_) == {"layer", "subword"}
    assert [len(tags) for tags in search.predict(LONG)] == [len(words) for words in LONG]
    scorer = make_scorer(span_f1_score, zero_division=0.0)
    scores = cross_val_score(tagger.set_params(layer=-1), THREE, NAMES, scoring=scorer, cv=2)
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.process
def test_n_jobs_gives_the_same_scores():
    tagger = FineTuneTagger(BERT, layer=1, freeze_depth="all", max_epochs=0, random_state=0)
    one, two = (cross_val_score(tagger, X, Y, cv=2, n_jobs=n_jobs) for n_jobs in (1, 2))
    np.testing.assert_allclose(one, two)


def test_pipeline_and_metadata_routing():
    lower = FunctionTransformer(lambda rows: [[word.lower() for word in words] for words in rows])
    tagger = FineTuneTagger(BERT, layer=1, freeze_depth="all", max_epochs=0, random_state=0)
    upper = [[word.upper() for word in words] for words in X]
    assert make_pipeline(lower, tagger).fit(upper, Y).score(upper, Y) == clone(tagger).fit(X, Y).score(X, Y)
    with sklearn.config_context(enable_metadata_routing=True):
        weighted = clone(tagger).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        params = {"sample_weight": np.ones(24), "groups": np.arange(24) // 2}
        scores = cross_val_score(make_pipeline(lower, weighted), upper, Y, cv=GroupKFold(2), params=params)
    assert len(scores) == 2
