"""What fine-tuning promises of frozen stages, of the shared backbone, and of its parameters."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback

from sktransfer import (
    FineTuneClassifier,
    ImageFeaturizer,
    TextFeaturizer,
    cache_info,
    clear_cache,
    config_context,
    load_backbone,
)
from sktransfer.exceptions import InvalidParameterError, TruncatedTextWarning
from sktransfer.testing.samples import make_samples
from tests.helpers.elsewhere import run_code
from tests.helpers.small_bert import small_bert

IMAGES, LABELS = make_samples("image", 12)
TEXTS, _ = make_samples("text", 12)
BERT = "hf/" + small_bert()


def quick(backbone="tiny/cnn", **parameters):
    return FineTuneClassifier(backbone, **{"max_epochs": 2, "random_state": 0, **parameters})


def state(backbone):
    return [{name: t.clone() for name, t in stage.state_dict().items()} for stage in backbone.stages]


def unequal(one, other):
    return [any(not torch.equal(a[name], b[name]) for name in a) for a, b in zip(one, other)]


@pytest.mark.parametrize("depth", [0, 3, -1, 0.5, "block2", "all"])
@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_freeze_depth_keeps_frozen_stages_bit_equal_and_trains_the_others(depth, weights):
    clf = quick(freeze_depth=depth, weights=weights, lr=1e-3)
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    source = load_backbone("tiny/cnn", weights=weights, seed=seed)
    before = state(source)
    clf.fit(IMAGES, LABELS)
    changed = unequal(before, state(clf.backbone_))
    assert changed == [k >= clf.freeze_depth_ for k in range(7)]
    assert not any(unequal(before, state(source)))  # the shared backbone itself never changes


def test_freeze_depth_turns_off_dropout_and_gradients_of_frozen_stages():
    before = state(load_backbone(BERT))
    clf = quick(BERT, freeze_depth=2, lr=1e-3).fit(TEXTS, LABELS)
    assert unequal(before, state(clf.backbone_)) == [False, False, True, True]
    frozen = [module for stage in clf.backbone_.stages[:2] for module in stage.modules()]
    assert not any(module.training for module in frozen)
    assert all(p.grad is None for stage in load_backbone(BERT).stages for p in stage.parameters())


def test_fit_keeps_pretrained_batch_norm_statistics():
    clf = quick(freeze_depth=0, lr=1e-3).fit(IMAGES, LABELS)
    for before, after in zip(state(load_backbone("tiny/cnn")), state(clf.backbone_)):
        for name in before:
            if "running" in name:
                assert torch.equal(before[name], after[name])


def test_random_state_determines_the_result():
    one = quick(weights="random", head_init="random").fit(IMAGES, LABELS)
    torch.rand(1)  # what the process draws elsewhere is of no matter
    same = quick(weights="random", head_init="random").fit(IMAGES, LABELS)
    other = quick(weights="random", head_init="random", random_state=1).fit(IMAGES, LABELS)
    np.testing.assert_array_equal(one.predict_proba(IMAGES), same.predict_proba(IMAGES))
    assert np.abs(one.predict_proba(IMAGES) - other.predict_proba(IMAGES)).max() > 1e-4


@pytest.mark.parametrize("backbone", ["tiny/cnn", BERT], ids=["images", "texts"])
def test_cache_does_not_change_results(backbone):
    X = IMAGES if backbone == "tiny/cnn" else TEXTS
    stored = quick(backbone, freeze_depth=2).fit(X, LABELS).decision_function(X)
    plain = quick(backbone, freeze_depth=2, cache=None).fit(X, LABELS).decision_function(X)
    np.testing.assert_allclose(stored, plain, atol=1e-4 * np.abs(plain).max())


def test_cache_runs_frozen_stages_once_per_sample_in_a_grid_search():
    backbone = load_backbone("tiny/cnn", weights="random", seed=777)
    seen = []
    hook = backbone.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    grid = {"freeze_depth": ["block3"], "lr": [1e-4, 1e-3]}
    GridSearchCV(quick(backbone, layer="block4"), grid, cv=3).fit(IMAGES, LABELS)
    hook.remove()
    # Twice: once for the pooled features of the probe, once for the values at the cut.
    assert sum(seen) <= 2 * len(IMAGES)


@pytest.mark.process
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_freeze_depth_in_a_grid_search_over_a_pipeline(n_jobs):
    pipeline = make_pipeline(FunctionTransformer(), quick())
    grid = {"finetuneclassifier__freeze_depth": [0, 0.5, -1, "all"]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs, error_score="raise").fit(np.stack(IMAGES), LABELS)
    assert search.best_score_ == 1
    assert len(search.cv_results_["params"]) == 4


def test_layer_below_and_above_the_freezing_boundary():
    clf = quick(layer=["block1", "block4"], freeze_depth=3).fit(IMAGES, LABELS)
    assert clf.net_.module_.heads["y"].linear.in_features == 64 + 128
    assert len(clf.backbone_.stages) == 5  # what lies above the last layer is left out
    assert clf.freeze_depth_ == 3
    assert clf.score(IMAGES, LABELS) == 1
    assert quick(layer="block4", freeze_depth=1.0).fit(IMAGES, LABELS).freeze_depth_ == 5


def test_head_init_probe_equals_logistic_regression_on_features():
    clf = quick(layer=-1, freeze_depth="all", max_epochs=0).fit(IMAGES, LABELS)
    features = ImageFeaturizer(layer=-1).fit_transform(IMAGES)
    features = (features - features.mean(0)) / np.sqrt(features.var(0).sum())
    probe = LogisticRegression(C=clf.strength_, tol=1e-6, max_iter=1000).fit(features, LABELS)
    np.testing.assert_allclose(clf.predict_proba(IMAGES), probe.predict_proba(features), atol=1e-3)
    assert clf.n_iter_ == 0


def test_backbone_takes_the_trained_backbone_of_another_estimator():
    source = quick(freeze_depth=4, lr=1e-3).fit(IMAGES, LABELS)
    target = quick(source.backbone_, freeze_depth="all").fit(IMAGES, LABELS)
    assert target.backbone_ is source.backbone_
    assert clone(target).backbone is source.backbone_
    featurizer = ImageFeaturizer(source.backbone_)
    assert np.abs(featurizer.fit_transform(IMAGES) - ImageFeaturizer().fit_transform(IMAGES)).max() > 1e-3
    with pytest.raises(InvalidParameterError, match="backbone_"):
        quick(source).fit(IMAGES, LABELS)


def test_pickle_holds_only_what_was_trained():
    shallow = quick(freeze_depth="all").fit(IMAGES, LABELS)
    deep = quick(freeze_depth=-2).fit(IMAGES, LABELS)
    assert len(pickle.dumps(shallow)) < 100_000
    assert len(pickle.dumps(deep)) > 1_000_000
    copied = pickle.loads(pickle.dumps(deep))
    np.testing.assert_array_equal(copied.predict_proba(IMAGES), deep.predict_proba(IMAGES))


def test_fit_pads_each_batch_to_its_longest_text():
    widths = []

    class Watch(Callback):
        def on_batch_begin(self, net, batch, training):
            values, mask = batch[0]["values"], batch[0]["mask"]
            assert mask.any(0).all()  # no column is padding alone
            widths.append(values.shape[1])

    quick(BERT, freeze_depth=1, batch_size=4, callbacks=[Watch()]).fit(TEXTS, LABELS)
    assert len(set(widths)) > 1
    assert max(widths) < 24


def test_callbacks_are_notified_of_epochs():
    class Count(Callback):
        n = 0

        def on_epoch_end(self, net, **kwargs):
            Count.n += 1

    clf = quick(callbacks=[("count", Count())], max_epochs=3).fit(IMAGES, LABELS)
    assert Count.n == clf.n_iter_ == 3
    assert len(clf.net_.history[:, "train_loss"]) == 3


def test_set_callbacks_lets_a_callback_end_training():
    class StopAtSecond:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context):
            return context.task_name == "epoch" and context.task_id == 1

    clf = quick(max_epochs=9).set_callbacks(StopAtSecond()).fit(IMAGES, LABELS)
    assert clf.n_iter_ == 2


def test_set_callbacks_nests_a_progress_bar_in_a_grid_search():
    search = GridSearchCV(quick(), {"freeze_depth": [-1, "all"]}, cv=2).set_callbacks(ProgressBar())
    assert search.fit(IMAGES, LABELS).best_score_ == 1


def test_verbose_prints_a_line_per_epoch(capsys):
    clf = quick(verbose=1, early_stopping=True, validation_fraction=0.3, lr=3e-5).fit(IMAGES, LABELS)
    title, names, _, *lines = capsys.readouterr().out.splitlines()
    assert title.startswith("FineTuneClassifier(backbone='tiny/cnn', early_stopping=True, ")
    assert names.split() == ["epoch", "lr", "train_loss", "valid_acc", "valid_loss", "seconds"]
    assert len(lines) == clf.n_iter_
    history = clf.history_[["lr", "train_loss", "valid_acc", "valid_loss", "seconds"]]
    shown = [[float(one) for one in line.split()[1:]] for line in lines]
    np.testing.assert_allclose(shown, history, rtol=1e-3)  # significant digits, no 0.0000
    assert len({len(line) for line in [names, *lines]}) == 1


def test_fit_warns_once_of_truncated_texts():
    texts = ["good " * 40, *TEXTS[1:]]
    with pytest.warns(TruncatedTextWarning, match="1 of 12 texts") as caught:
        clf = quick(BERT, freeze_depth=2, cache=None).fit(texts, LABELS)
    assert len(caught) == 1
    with pytest.warns(TruncatedTextWarning, match="1 of 2 texts"):
        clf.predict(texts[:2])


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"freeze_depth": 8}, "7 stages"),
        ({"freeze_depth": True}, "freeze_depth=True"),
        ({"freeze_depth": 1.5}, "from 0 to 1"),
        ({"freeze_depth": "block9"}, "block5"),
        ({"freeze_depth": "block5", "layer": "block2"}, "block2"),
        ({"head_init": "zeros"}, "probe"),
        ({"optimizer": "lion"}, "adamw"),
        ({"lr": 0}, "lr=0"),
        ({"lr": "fast"}, "'auto'"),
        ({"head_lr": -1}, "head_lr"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_epochs": -1}, "max_epochs"),
        ({"max_length": 5}, "takes no texts"),
    ],
)
def test_fit_names_invalid_parameters_and_allowed_values(parameters, match):
    with pytest.raises(InvalidParameterError, match=match):
        quick(**parameters).fit(IMAGES, LABELS)


def test_preprocess_is_rejected_for_text_backbones():
    with pytest.raises(InvalidParameterError, match="takes no images"):
        quick(BERT, preprocess={"resize": 3}).fit(TEXTS, LABELS)


def test_text_featurizer_takes_a_trained_backbone():
    clf = quick(BERT, freeze_depth=2, lr=1e-2).fit(TEXTS, LABELS)
    tuned = TextFeaturizer(clf.backbone_).fit_transform(TEXTS)
    plain = TextFeaturizer(BERT).fit_transform(TEXTS)
    assert np.abs(tuned - plain).max() > 1e-2


@pytest.mark.gpu
def test_device_cuda_leaves_fitted_tensors_on_the_cpu(gpu):
    X, y = make_samples("image", 12)
    clf = FineTuneClassifier(freeze_depth=-1, max_epochs=1, device="cuda", random_state=0).fit(X, y)
    on_gpu = clf.predict_proba(X)
    tensors = [*clf.backbone_.stages.state_dict().values(), *clf.net_.module_.state_dict().values()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    moved = pickle.loads(pickle.dumps(clf)).set_params(device="cpu")
    np.testing.assert_allclose(moved.predict_proba(X), on_gpu, atol=1e-3)


@pytest.mark.parametrize("backbone", ["tiny/cnn", BERT], ids=["images", "texts"])
@pytest.mark.parametrize("precision", ["bfloat16", "float16", "auto"])
def test_precision_lower_trains_float32_weights_to_similar_values(backbone, precision):
    X = IMAGES if backbone == "tiny/cnn" else TEXTS
    exact = quick(backbone, lr=1e-3, head_init="random").fit(X, LABELS)
    rounded = quick(backbone, lr=1e-3, head_init="random", precision=precision).fit(X, LABELS)
    assert {p.dtype for p in rounded.net_.module_.parameters()} == {torch.float32}
    np.testing.assert_allclose(rounded.predict_proba(X), exact.predict_proba(X), atol=0.05)
    before = state(load_backbone(backbone))
    assert unequal(before, state(rounded.backbone_))[:2] == [False, False]


def test_cache_memory_too_small_does_not_change_results():
    expected = quick(freeze_depth=2, cache=None).fit(IMAGES, LABELS).predict_proba(IMAGES)
    clear_cache()
    with config_context(cache_memory=20_000):
        found = quick(freeze_depth=2).fit(IMAGES, LABELS).predict_proba(IMAGES)
        assert cache_info().n_bytes <= 20_000
    clear_cache()
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.process
def test_cache_folder_is_used_by_the_next_process(tmp_path):
    clf = quick(layer=-1, freeze_depth=3, cache=tmp_path).fit(IMAGES, LABELS)
    program = (
        "import sys, pickle, numpy, torch\n"
        "from sktransfer import load_backbone\n"
        "clf, X, y = pickle.load(open(sys.argv[1], 'rb'))\n"
        "ran = []\n"
        "for stage in load_backbone('tiny/cnn').stages[:3]:\n"
        "    stage.register_forward_hook(lambda *_: torch.is_grad_enabled() or ran.append(1))\n"
        "again = clf.fit(X, y).predict_proba(X)\n"
        "assert not ran, ran\n"
        "numpy.save(sys.argv[2], again)\n"
    )
    (tmp_path / "given").write_bytes(pickle.dumps((clone(clf), IMAGES, LABELS)))
    run_code(program, tmp_path / "given", tmp_path / "again.npy")
    np.testing.assert_allclose(np.load(tmp_path / "again.npy"), clf.predict_proba(IMAGES), atol=1e-5)
