from __future__ import annotations

import copy
import functools
import pickle

import numpy as np
import pytest
import torch
from sklearn import (
    calibration,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    linear_model,
    neural_network,
    preprocessing,
    svm,
)
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sktransfer import (
    Backbone,
    FineTuneClassifier,
    FineTuneRegressor,
    FineTuneTagger,
    ImageFeaturizer,
    MultiTaskFineTuner,
    NearestClassMean,
    PretrainedClassifier,
    TextFeaturizer,
    TokenFeaturizer,
    WordEmbedder,
    as_module,
)
from sktransfer.exceptions import InvalidParameterError
from sktransfer.explain.as_module import convert
from tests.helpers.saved_estimators import MAKERS, TEXTS, digits, fitted

pytestmark = pytest.mark.filterwarnings(
    # Steps are compared as they are, converged or not.
    "ignore::sklearn.exceptions.ConvergenceWarning",
)
X, Y = digits()
HIGH = (Y > 4).astype(int)
METHODS = ("predict_proba", "decision_function", "predict", "transform")
WITH_MODULE = ("ImageFeaturizer", "ImageFeaturizer, auto", "TextFeaturizer", "untrained weights", "FineTuneClassifier")
WITH_MODULE += ("FineTuneClassifier, several labels", "FineTuneClassifier, auto", "FineTuneClassifier, adapter, mix")
WITH_MODULE += ("FineTuneClassifier, all frozen", "FineTuneRegressor", "ContrastiveFineTuner, NearestClassMean")
WITH_MODULE += ("SelfSupervisedTuner",)
WITH_MODULE += ("PretrainedClassifier", "ZeroShotClassifier", "BestBackbone", "Pipeline", "GridSearchCV")
WITH_MODULE += ("MultiTaskFineTuner, task",)


def run(module, samples):
    batch = module.preprocess(samples)
    with torch.no_grad():
        return module(*(batch if isinstance(batch, tuple) else (batch,))).numpy()


def expected(estimator, samples):
    """Return what the module should give, with two columns for a decision function of two classes."""
    method = next(name for name in METHODS if hasattr(estimator, name))
    values = np.asarray(getattr(estimator, method)(samples), dtype=float)
    if method == "decision_function" and values.ndim == 1:
        return np.stack([-values / 2, values / 2], 1)
    return values.reshape(len(values), -1)


@functools.cache
def features():
    values = ImageFeaturizer(layer="block4").fit_transform(X)
    return values[:, values.std(0) > 0.02]


def run_step(step, values):
    """Return the output of the module of a step that was fitted to features."""
    converted = convert(step)
    layers = (*converted.layers, converted.link) if converted.link else converted.layers
    with torch.no_grad():
        return nn.Sequential(*layers)(torch.from_numpy(values)).numpy()


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=1e-5 * max(1, np.abs(wanted).max()))


def pipeline(*steps, y=Y):
    return make_pipeline(ImageFeaturizer(layer="block4"), *steps).fit(X, y)


@pytest.mark.parametrize("name", WITH_MODULE)
def test_as_module_equals_the_estimator(name):
    estimator, samples = fitted(name), X if MAKERS[name][2] == "images" else TEXTS
    module = as_module(estimator)
    np.testing.assert_allclose(run(module, samples), expected(estimator, samples), atol=1e-5, rtol=1e-5)
    if hasattr(estimator, "classes_"):
        assert module.classes_.tolist() == list(estimator.classes_)


CLASSIFIERS = {
    "LogisticRegression": LogisticRegression(max_iter=300),
    "LogisticRegressionCV": linear_model.LogisticRegressionCV(
        Cs=[0.1, 1.0], cv=2, max_iter=300, l1_ratios=(0.0,), use_legacy_attributes=False, scoring="accuracy"
    ),
    "LinearSVC": svm.LinearSVC(),
    "Perceptron": linear_model.Perceptron(),
    "RidgeClassifier": linear_model.RidgeClassifier(),
    "SGDClassifier": linear_model.SGDClassifier(alpha=1.0, random_state=0),
    "SGDClassifier, log_loss": linear_model.SGDClassifier(loss="log_loss", alpha=1.0, random_state=0),
    "SGDClassifier, modified_huber": linear_model.SGDClassifier(loss="modified_huber", alpha=9.0, random_state=0),
    "LinearDiscriminantAnalysis": make_pipeline(
        decomposition.PCA(10), discriminant_analysis.LinearDiscriminantAnalysis()
    ),
    "MLPClassifier": neural_network.MLPClassifier(16, activation="tanh", max_iter=20, tol=0.1, random_state=0),
    "NearestClassMean": NearestClassMean(),
    "CalibratedClassifierCV, sigmoid": calibration.CalibratedClassifierCV(LogisticRegression(max_iter=300), cv=2),
    "CalibratedClassifierCV, temperature": calibration.CalibratedClassifierCV(
        svm.LinearSVC(), cv=2, method="temperature"
    ),
    "CalibratedClassifierCV of probabilities": calibration.CalibratedClassifierCV(
        neural_network.MLPClassifier(16, max_iter=10, tol=0.1, random_state=0), cv=2, method="temperature"
    ),
    "GridSearchCV": GridSearchCV(LogisticRegression(max_iter=300), {"C": [0.1, 1.0]}, cv=2),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("y", [Y, HIGH], ids=["ten classes", "two classes"])
def test_as_module_equals_classifiers_of_scikit_learn(name, y):
    step = clone(CLASSIFIERS[name]).fit(features(), y)
    close(run_step(step, features()), expected(step, features()))
    assert convert(step).classes.tolist() == step.classes_.tolist()
    assert (convert(step).link is None) == (not hasattr(step, "predict_proba"))


TRANSFORMERS = {
    "StandardScaler": preprocessing.StandardScaler(),
    "StandardScaler, without mean": preprocessing.StandardScaler(with_mean=False),
    "StandardScaler, without std": preprocessing.StandardScaler(with_std=False),
    "MinMaxScaler": preprocessing.MinMaxScaler((-1, 2)),
    "MinMaxScaler, clip": preprocessing.MinMaxScaler((0.2, 0.8), clip=True),
    "MaxAbsScaler": preprocessing.MaxAbsScaler(),
    "RobustScaler": preprocessing.RobustScaler(with_centering=False),
    "Normalizer, l2": preprocessing.Normalizer(),
    "Normalizer, l1": preprocessing.Normalizer("l1"),
    "Normalizer, max": preprocessing.Normalizer("max"),
    "PCA": decomposition.PCA(5),
    "PCA, whiten": decomposition.PCA(5, whiten=True, random_state=0),
    "IncrementalPCA": decomposition.IncrementalPCA(5),
    "TruncatedSVD": decomposition.TruncatedSVD(5, random_state=0),
    "SelectKBest": feature_selection.SelectKBest(k=20),
    "SelectFromModel": feature_selection.SelectFromModel(LogisticRegression(max_iter=300)),
    "VarianceThreshold": feature_selection.VarianceThreshold(0.01),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_as_module_equals_transformers_of_scikit_learn(name):
    step = clone(TRANSFORMERS[name]).fit(features(), Y)
    others = features()[::-1] + np.float32(0.1)
    close(run_step(step, others), expected(step, others))
    assert convert(step).gives == "features"


@pytest.mark.parametrize(
    "regressor",
    [
        linear_model.Ridge(),
        linear_model.SGDRegressor(random_state=0),
        linear_model.LassoCV(cv=2),
        svm.LinearSVR(),
        neural_network.MLPRegressor(hidden_layer_sizes=8, max_iter=10, tol=0.1, random_state=0),
        neural_network.MLPRegressor("poisson", 8, max_iter=10, tol=0.1, random_state=0),
    ],
    ids=lambda one: f"{type(one).__name__} {getattr(one, 'loss', '')}",
)
def test_as_module_equals_regressors_of_scikit_learn(regressor):
    step = make_pipeline(preprocessing.Normalizer(), regressor).fit(features(), X.mean(1))
    close(run_step(step, features()), expected(step, features()))
    assert (convert(step).gives, convert(step).classes) == ("predictions", None)


@pytest.mark.parametrize(
    "classifier",
    [
        linear_model.RidgeClassifier(),
        neural_network.MLPClassifier(8, max_iter=10, tol=0.1, random_state=0),
    ],
    ids=lambda one: type(one).__name__,
)
def test_as_module_equals_classifiers_of_an_indicator_matrix(classifier):
    step = make_pipeline(preprocessing.Normalizer(), classifier).fit(features(), np.stack([HIGH, Y % 2], 1))
    close(run_step(step, features()), expected(step, features()))


@pytest.mark.parametrize("method", ["sigmoid", "temperature"])
def test_as_module_of_calibrated_fine_tuned_classifier(method):
    frozen = FrozenEstimator(FineTuneClassifier(freeze_depth="all", max_epochs=0).fit(X, HIGH))
    estimator = calibration.CalibratedClassifierCV(frozen, method=method).fit(X[::-1], 1 - HIGH)
    np.testing.assert_allclose(run(as_module(estimator), X), estimator.predict_proba(X), atol=1e-5)


def test_as_module_of_calibrated_pipelines_shares_one_pass():
    estimator = calibration.CalibratedClassifierCV(make_pipeline(ImageFeaturizer(layer=-1), LogisticRegression()), cv=2)
    module = as_module(estimator.fit(X, HIGH))
    np.testing.assert_allclose(run(module, X), estimator.predict_proba(X), atol=1e-5)
    assert len(module.body[0].members) == 2
    chosen = make_pipeline(ImageFeaturizer(layer="auto"), LogisticRegression())
    with pytest.raises(InvalidParameterError, match="networks or layers that differ"):
        as_module(calibration.CalibratedClassifierCV(chosen, cv=2, ensemble=True).fit(X, Y % 3 + X[:, 20].round()))


@pytest.mark.parametrize("pooling", ["max", "flatten", "grid3"])
def test_as_module_pools_images(pooling):
    estimator = ImageFeaturizer(layer=["block5", 1], pooling=pooling).fit(X)
    np.testing.assert_allclose(run(as_module(estimator), X[:5]), estimator.transform(X[:5]), atol=1e-5)


@pytest.mark.parametrize("pooling", ["max", "class_token", "last_token", "mean+max"])
def test_as_module_pools_texts_of_different_length(pooling):
    estimator = TextFeaturizer(pooling=pooling, normalize=True).fit(TEXTS)
    np.testing.assert_allclose(run(as_module(estimator), TEXTS[:3]), estimator.transform(TEXTS[:3]), atol=1e-5)


def test_as_module_adds_up_categories_of_the_same_name():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
    names = ["crane", "boat", "crane", "heron"]
    backbone = Backbone.from_modules([("stem", network)], input_size=(8, 8), head=nn.Linear(8, 4), categories=names)
    estimator = PretrainedClassifier(backbone)
    module = as_module(estimator)
    np.testing.assert_allclose(run(module, X[:4]), estimator.predict_proba(X[:4]), atol=1e-6)
    assert module.classes_.tolist() == ["boat", "crane", "heron"]


@pytest.mark.parametrize("featurizer", [ImageFeaturizer(), TextFeaturizer()], ids=["images", "texts"])
def test_as_module_of_default_layers_equals_the_pipeline(featurizer):
    samples, y = (X, Y) if isinstance(featurizer, ImageFeaturizer) else (TEXTS, ["up", "down"] * (len(TEXTS) // 2))
    clf = make_pipeline(clone(featurizer), LogisticRegression()).fit(samples, y)
    assert len(clf[0].layer_) > 1
    close(run(as_module(clf), samples), clf.predict_proba(samples))


def test_output_logits_of_two_classes_differ_by_the_decision_function():
    for estimator in (
        pipeline(LogisticRegression(max_iter=300), y=HIGH),
        fitted("FineTuneClassifier, adapter, mix"),
    ):
        samples = X if estimator.classes_.dtype.kind == "i" else TEXTS
        logits = run(as_module(estimator, output="logits"), samples)
        np.testing.assert_allclose(logits[:, 1] - logits[:, 0], estimator.decision_function(samples), atol=1e-4)
        proba = torch.from_numpy(logits).softmax(1).numpy()
        np.testing.assert_allclose(proba, estimator.predict_proba(samples), atol=1e-5)


def test_output_that_the_estimator_lacks_names_those_it_has():
    with pytest.raises(InvalidParameterError, match=r"gives logits\. CalibratedClassifierCV\(FrozenEstimator"):
        as_module(pipeline(svm.LinearSVC()), output="probabilities")
    with pytest.raises(InvalidParameterError, match="output='logits' is none of ImageFeaturizer, which gives features"):
        as_module(ImageFeaturizer().fit(X), output="logits")
    with pytest.raises(InvalidParameterError, match="output='scores' must be one of"):
        as_module(ImageFeaturizer().fit(X), output="scores")


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (ensemble.RandomForestClassifier(2), r"RandomForestClassifier has no module.*LogisticRegression.*\[:-1\]"),
        (preprocessing.QuantileTransformer(n_quantiles=4), "QuantileTransformer has no module.*StandardScaler.*omit"),
        (
            calibration.CalibratedClassifierCV(LogisticRegression(), cv=2, method="isotonic"),
            r"method='isotonic'\) has no module.*method='sigmoid' or 'temperature'",
        ),
        (
            calibration.CalibratedClassifierCV(neural_network.MLPClassifier(4, max_iter=1, tol=9.0), cv=2),
            "calibrates the probabilities of MLPClassifier.*use method='temperature'",
        ),
    ],
    ids=["forest", "quantiles", "isotonic", "sigmoid of probabilities"],
)
def test_as_module_refuses_steps_without_a_module(estimator, message):
    with pytest.raises(InvalidParameterError, match=message):
        convert(clone(estimator).fit(features(), HIGH))


def test_as_module_refuses_other_inputs():
    columns = make_column_transformer((TextFeaturizer(), "text"))
    with pytest.raises(
        InvalidParameterError,
        match=r"ColumnTransformer has no module, because it joins several inputs.*make_transfer_pipeline",
    ):
        as_module(columns)
    with pytest.raises(InvalidParameterError, match=r"WordEmbedder has no module.*Use TextFeaturizer"):
        as_module(WordEmbedder())
    with pytest.raises(InvalidParameterError, match=r"MultiTaskFineTuner has no.*as_module\(tuner\.task\(name\)\)"):
        as_module(MultiTaskFineTuner())
    for refused, hint in (
        (FineTuneTagger(), r"layer=layer, subword=tagger\.subword\).*list\(tagger\.layer_\.index\)"),
        (TokenFeaturizer(), r"as_module\(TextFeaturizer\(featurizer\.backbone_, layer=-1\)\.fit\(texts\)\)"),
    ):
        with pytest.raises(InvalidParameterError, match=hint):
            as_module(refused)
    with pytest.raises(InvalidParameterError, match="convert the pipeline that begins with the featurizer"):
        as_module(NearestClassMean().fit([[0.0, 1.0], [1.0, 0.0]], ["a", "b"]))
    for wrong, message in (
        (3, "an object of type int is not a fitted estimator"),
        (as_module(PretrainedClassifier("tiny/cnn")), "an object of type EstimatorModule is not a fitted estimator"),
        (LogisticRegression, r"LogisticRegression is a class.*LogisticRegression\(\.\.\.\)\.fit"),
        ("a.skt", r"'a.skt' is a path.*pass sktransfer.load\('a.skt'\)"),
    ):
        with pytest.raises(InvalidParameterError, match=message):
            as_module(wrong)

    class Own(LogisticRegression):
        pass

    with pytest.raises(InvalidParameterError, match="Own has no module"):
        as_module(pipeline(Own()))


@pytest.mark.parametrize(("layer", "subword"), [("auto", "mean"), (1, "first")])
def test_head_of_a_tagger_reads_the_features_that_as_module_names(layer, subword):
    sentences, tags = [["Anna", "sleeps"], ["unbelievably", "good"]] * 3, [["PER", "O"], ["O", "O"]] * 3
    options = {"layer": layer, "subword": subword, "freeze_depth": "all", "max_epochs": 0}
    tagger = FineTuneTagger("tiny/bert", decode="argmax", **options).fit(sentences, tags)
    layer = list(tagger.layer_.index) if tagger.layer == "auto" else tagger.layer
    featurizer = TokenFeaturizer(tagger.backbone_, layer=layer, subword=tagger.subword).fit(sentences)
    for words, probabilities in zip(featurizer.transform(sentences), tagger.predict_proba(sentences)):
        logits = torch.from_numpy(tagger.head_(words))
        np.testing.assert_allclose(logits.softmax(1).numpy(), probabilities, atol=1e-5)
    module = as_module(TextFeaturizer(featurizer.backbone_, layer=-1).fit(["Anna sleeps"]))
    assert module(*module.preprocess(["Anna sleeps"])).shape == (1, 160)


@pytest.mark.parametrize(
    "estimator",
    [
        FineTuneClassifier(),
        FineTuneRegressor(),
        ImageFeaturizer(),
        make_pipeline(ImageFeaturizer(), LogisticRegression()),
    ],
    ids=lambda one: type(one).__name__,
)
def test_as_module_of_an_estimator_that_is_not_fitted(estimator):
    with pytest.raises(NotFittedError):
        as_module(estimator)


def test_as_module_copies_weights():
    estimator = fitted("FineTuneClassifier")
    before = estimator.predict_proba(X)
    module = as_module(estimator)
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not module.training
    fingerprint = estimator.backbone_.fingerprint()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert estimator.backbone_.fingerprint() == fingerprint
    assert (estimator.predict_proba(X) == before).all()


def test_as_module_is_an_ordinary_module():
    module = as_module(fitted("FineTuneClassifier"))
    values = module.preprocess(X)
    assert values.shape == (len(X), 3, 32, 32)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(values), module(values))
    assert module.stage_names == fitted("FineTuneClassifier").backbone_.stage_names


def test_forward_takes_texts_without_a_mask_and_masks_of_numbers():
    module = as_module(fitted("TextFeaturizer"))
    ids, mask = module.preprocess(TEXTS[:4])
    assert ids.shape == mask.shape
    np.testing.assert_allclose(module(ids, mask.float()).detach(), module(ids, mask).detach())
    alone, _ = module.preprocess(TEXTS[:1])
    np.testing.assert_allclose(module(alone).detach(), module(ids, mask)[:1].detach(), atol=1e-5)


def test_preprocess_checks_samples_as_the_estimator_does():
    module = as_module(fitted("FineTuneClassifier"))
    with pytest.raises(ValueError, match="expecting 64 features"):
        module.preprocess(X[:, :49])
    with pytest.raises(ValueError, match="row 1"):
        as_module(TextFeaturizer().fit(TEXTS)).preprocess(["a text", 3])


def test_as_module_suits_captum_and_grad_cam():
    from captum.attr import LayerIntegratedGradients, Occlusion
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module = as_module(pipeline(LogisticRegression(max_iter=300)), output="logits")
    pixels = module.preprocess(X[:2])
    occluded = Occlusion(module).attribute(pixels, (3, 16, 16), strides=(3, 16, 16), target=3)
    assert occluded.shape == pixels.shape
    with GradCAM(module, [module.stages[-1]]) as cam:
        maps = cam(pixels, [ClassifierOutputTarget(3)] * 2)
    assert maps.shape == (2, 32, 32)
    assert maps.max() > 0

    texts = as_module(fitted("FineTuneClassifier, adapter, mix"), output="logits")
    ids, mask = texts.preprocess(TEXTS[:2])
    layer = LayerIntegratedGradients(texts, texts.stages[0])
    assert layer.attribute(ids, additional_forward_args=(mask,), target=1, n_steps=4).shape == (*ids.shape, 160)


def test_module_takes_a_batch_of_preprocessed_samples():
    images, texts = as_module(PretrainedClassifier("tiny/cnn")), as_module(TextFeaturizer("tiny/bert").fit(["a"]))
    pixels = torch.zeros(1, 3, 32, 32)
    for wrong, given in ((pixels[0], r"shape \(3, 32, 32\)"), (pixels.numpy(), "ndarray"), ([pixels], "list")):
        with pytest.raises(InvalidParameterError, match=rf"of preprocessed images, not .*{given}: module\(module\.pre"):
            images(wrong)
    for wrong, given in ((texts.preprocess(["a"]), "tuple"), (["a"], "list")):
        with pytest.raises(InvalidParameterError, match=rf"texts, not {given}: module\(\*module\.preprocess\(X\)\)"):
            texts(wrong)
