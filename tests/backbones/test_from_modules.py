from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn
from torchvision.models import resnet18

from sktransfer import (
    Backbone,
    FineTuneClassifier,
    ImageFeaturizer,
    PretrainedClassifier,
    TextFeaturizer,
    load_backbone,
)
from sktransfer.backbones import ImageStage, ImageTransform, PooledHead
from sktransfer.exceptions import InvalidParameterError
from tests.helpers.small_bert import small_bert
from tests.helpers.toys import Attend, Embed, Words


class Scale(nn.Module):
    """What it computes shows neither in its weights nor in its repr."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, values):
        return values * self.factor


class MaskedHead(nn.Module):
    def forward(self, values, mask=None):
        return values.flatten(1)[:, :2]  # (n, 2)


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [
            ("stem", nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())),
            ("block1", nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.Dropout(0.5), nn.ReLU())),
            ("block2", nn.Conv2d(6, 5, 3, 2, 1)),
        ]


def seen(modules):
    """Give BatchNorm statistics, as training does."""
    values = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for _, module in modules:
        values = module(values)
    return modules


@pytest.fixture
def own():
    return Backbone.from_modules(seen(network()), input_size=(16, 16))


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    y = np.arange(24) % 3
    X = generator.random((24, 16, 16, 3)) * 0.3 + y[:, None, None, None] / 4  # (n, height, width, 3)
    return X.astype(np.float32), y


def test_from_modules_stages_compute_the_same_as_the_modules(own):
    modules = seen(network())
    values = torch.rand(2, 3, 16, 16)
    for (name, module), given in zip(modules, own.run(values)):
        values = module.eval()(values)
        assert torch.equal(given, values), name
    assert own.stage_names == ("stem", "block1", "block2")
    assert (own.name, own.modality, own.pooling, own.head, own.categories) == (
        "own/network",
        "image",
        "average",
        None,
        (),
    )


def test_from_modules_leaves_the_given_modules_unchanged():
    modules = seen(network())
    before = [tensor.clone() for _, module in modules for tensor in module.state_dict().values()]
    own = Backbone.from_modules(modules)
    assert all(module.training for _, module in modules)
    assert all(parameter.requires_grad for _, module in modules for parameter in module.parameters())
    after = [tensor for _, module in modules for tensor in module.state_dict().values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after))
    fingerprint = own.fingerprint()
    with torch.no_grad():
        modules[0][1][0].weight += 1
    own._hashes.clear()
    assert own.fingerprint() == fingerprint


def test_from_modules_keeps_modules_shared_between_stages_and_head():
    shared = nn.Conv2d(3, 3, 3, padding=1)
    head = nn.Sequential(nn.Linear(3, 2))
    tail = nn.Sequential(nn.ReLU(), shared)
    own = Backbone.from_modules([("a", shared), ("b", tail), ("c", shared)], head=head)
    assert own.stages[0].body[0] is own.stages[1].body[0][1] is own.stages[2].body[0]
    assert own.stages[0].body[0] is not shared
    tied = nn.Linear(3, 3)
    own = Backbone.from_modules([("a", nn.Sequential(nn.Flatten(), nn.Linear(12, 3), tied))], head=tied)
    assert own.head.layers is own.stages[0].body[0][2]


def test_from_modules_copies_are_float32_on_the_cpu():
    own = Backbone.from_modules([("a", nn.Conv2d(3, 4, 1).double()), ("b", nn.Conv2d(4, 4, 1).half())])
    assert {parameter.dtype for parameter in own.stages.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in own.stages.parameters())
    assert not any(module.training for module in own.stages.modules())


@pytest.mark.gpu
def test_from_modules_copies_to_the_cpu_and_leaves_modules_on_the_gpu(gpu):
    module = nn.Conv2d(3, 4, 1).cuda()
    own = Backbone.from_modules([("a", module)])
    assert module.weight.device.type == "cuda"
    assert own.stages[0].body[0].weight.device.type == "cpu"


def test_from_modules_fingerprint_differs_for_unequal_forward(data):
    X, _ = data
    twice, thrice = (Backbone.from_modules([("scale", Scale(factor))], name="same") for factor in (2, 3))
    assert repr(twice.stages) == repr(thrice.stages)
    assert twice.fingerprint() != thrice.fingerprint()
    two, three = (ImageFeaturizer(one).fit_transform(X) for one in (twice, thrice))  # the store is shared
    assert np.allclose(two * 3, three * 2)
    assert not np.allclose(two, three)


def test_from_modules_preprocess_and_input_size_work_as_documented(data):
    X, _ = data
    plain = Backbone.from_modules(network())
    assert plain.preprocess == ImageTransform()
    assert torch.equal(plain.preprocess(list(X[:1]))[0], torch.from_numpy(X[0]).permute(2, 0, 1))
    sized = Backbone.from_modules(network(), input_size=(8, 12), preprocess={"mean": [0.5, 0.5, 0.5]})
    assert sized.preprocess == ImageTransform(resize=(8, 12), mean=(0.5, 0.5, 0.5))
    whole = ImageTransform(resize=9)
    assert Backbone.from_modules(network(), preprocess=whole).preprocess is whole


def test_from_modules_head_gets_pooled_values_or_the_mask():
    linear = nn.Linear(5, 2)
    own = Backbone.from_modules(network(), head=linear, categories=["a", "b"], pooling="max")
    values = torch.rand(3, 5, 2, 2)
    assert torch.equal(own.head(values), linear(values.amax((2, 3))))
    assert own.categories == ("a", "b")
    for head in (MaskedHead(), PooledHead(nn.Linear(5, 2), "average")):
        own = Backbone.from_modules(network(), head=head)
        assert type(own.head) is type(head)
        assert torch.equal(own.head(values), head(values))


def test_from_modules_keeps_image_modules_that_take_the_mask():
    own = Backbone.from_modules([("a", ImageStage(nn.ReLU())), ("b", MaskedHead())])
    assert [type(stage) for stage in own.stages] == [ImageStage, MaskedHead]


def test_from_modules_pretrained_depends_on_batch_norm_statistics():
    assert not Backbone.from_modules(network()).pretrained
    assert Backbone.from_modules(seen(network())).pretrained
    assert Backbone.from_modules([("a", nn.Conv2d(3, 4, 1))]).pretrained


def test_from_modules_clone_keeps_the_object_and_pickle_the_weights(own, data):
    assert clone(ImageFeaturizer(own)).backbone is own
    back = pickle.loads(pickle.dumps(own))
    assert back.fingerprint() == own.fingerprint()
    X, _ = data
    fitted = ImageFeaturizer(own).fit(X)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.transform(X), fitted.transform(X))


def test_from_modules_backbone_works_in_imagefeaturizer(own, data):
    X, _ = data
    values = torch.from_numpy(X).permute(0, 3, 1, 2)  # (n, 3, height, width)
    *_, top = own.run(values)
    assert np.allclose(ImageFeaturizer(own).fit_transform(X), top.mean((2, 3)).numpy(), atol=1e-5)


@pytest.mark.parametrize("depth", [0, 1, -1, 3, "block1", 0.34, "all"])
def test_from_modules_backbone_is_fine_tuned_at_every_freeze_depth(depth, own, data):
    before = [{name: t.clone() for name, t in stage.state_dict().items()} for stage in own.stages]
    clf = FineTuneClassifier(own, freeze_depth=depth, max_epochs=2, lr=1e-3, random_state=0, device="cpu").fit(*data)
    frozen = own.n_frozen(depth)
    assert clf.freeze_depth_ == frozen
    for index, (old, new) in enumerate(zip(before, clf.backbone_.stages)):
        same = all(torch.equal(old[name], tensor) for name, tensor in new.state_dict().items())
        assert same == (index < frozen)
    after = [stage.state_dict() for stage in own.stages]
    assert all(torch.equal(old[name], new[name]) for old, new in zip(before, after) for name in old)
    assert np.array_equal(pickle.loads(pickle.dumps(clf)).predict(data[0]), clf.predict(data[0]))


@pytest.mark.process
@pytest.mark.loky
def test_from_modules_backbone_works_in_a_grid_search_with_n_jobs(own, data):
    clf = FineTuneClassifier(own, max_epochs=1, random_state=0, device="cpu")
    search = GridSearchCV(clf, {"freeze_depth": [1, "all"]}, cv=2, n_jobs=2, error_score="raise").fit(*data)
    alone = GridSearchCV(clf, {"freeze_depth": [1, "all"]}, cv=2, error_score="raise").fit(*data)
    assert np.allclose(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    assert search.best_estimator_.backbone is own


def test_from_modules_takes_text_modules_with_mask_and_preprocess():
    own = Backbone.from_modules([("embed", Embed()), ("attend", Attend())], modality="text", preprocess=Words())
    assert own.pooling == "mean"
    alone = TextFeaturizer(own).fit_transform(["bb ccc"])
    beside = TextFeaturizer(own, cache=None).fit_transform(["bb ccc", "a bb ccc dddd ee f"])
    assert np.allclose(alone[0], beside[0], atol=1e-6)
    embedding = ImageStage(nn.Embedding(10, 4))  # each token by itself: no mask is needed
    own = Backbone.from_modules([("embed", embedding)], modality="text", preprocess=Words())
    assert TextFeaturizer(own).fit_transform(["a bb"]).shape == (1, 4)


CONVOLUTION = nn.Conv2d(3, 3, 1)
PLAIN = [("a", CONVOLUTION)]


@pytest.mark.parametrize(
    ("modules", "says"),
    [
        ([], r"modules=\[\] holds no stage"),
        (nn.Sequential(CONVOLUTION), r"list\(network.named_children\(\)\), not Sequential"),
        ({"a": CONVOLUTION}, "not dict"),
        ("a", "not str"),
        ([CONVOLUTION], r"modules\[0\] is Conv2d"),
        ([*PLAIN, ("b", CONVOLUTION, 3)], r"modules\[1\]"),
        ([*PLAIN, ("b", torch.relu)], r"modules\[1\]: 'b' must be a torch.nn.Module, not builtin"),
        ([*PLAIN, ("b", nn.ReLU)], r"modules\[1\]: 'b' .* \(an instance, not the class\), not ReLU"),
        ([(3, CONVOLUTION)], r"modules\[0\]: the stage's name 3"),
        ([("", CONVOLUTION)], r"modules\[0\]: the stage's name ''"),
        ([*PLAIN, ("all", CONVOLUTION)], r"modules\[1\]: the name 'all' is reserved"),
        ([("mix", CONVOLUTION)], "the name 'mix' is reserved"),
        ([*PLAIN, ("b", CONVOLUTION), *PLAIN], "two stages have the name 'a'"),
        ([("a", nn.LazyConv2d(3, 1))], "weights of unknown shape"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_from_modules_refuses_modules_of_another_form(modules, says):
    with pytest.raises(InvalidParameterError, match=says):
        Backbone.from_modules(modules)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"modality": "sound"}, "modality='sound' must be one of"),
        ({"pooling": "median"}, "pooling='median'"),
        ({"head": torch.relu}, "head=.*must be a torch.nn.Module"),
        ({"input_size": 32}, "input_size=32"),
        ({"input_size": (32, 0)}, "input_size="),
        ({"input_size": (32, 32), "preprocess": ImageTransform()}, "sets the size already"),
        ({"preprocess": {"size": 3}}, "'size' is not a setting"),
        ({"preprocess": torch.relu}, "give an ImageTransform"),
        ({"preprocess": Words()}, "give an ImageTransform"),
        ({"modality": "text"}, "preprocess=None: for modality='text' give an object that converts texts to token ids"),
        ({"modality": "text", "preprocess": ImageTransform()}, "for modality='text'"),
        ({"modality": "text", "preprocess": Words(), "input_size": (8, 8)}, "input_size=.* is for images"),
        (
            {"modality": "text", "preprocess": Words()},
            r"forward of 'a' \(Conv2d\) must have the param",
        ),
    ],
)
def test_from_modules_names_other_parameters_that_are_not_allowed(options, says):
    with pytest.raises(InvalidParameterError, match=says):
        Backbone.from_modules(PLAIN, **options)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (resnet18(), r"not ResNet\. Make a backbone of the module's parts: Backbone\.from_modules\(list\("),
        (list(resnet18().named_children()), r"not list\. Make a backbone of modules by Backbone\.from_modules"),
        (resnet18().state_dict(), r"not OrderedDict\. It holds weights: save them .* weights=path"),
        (123, "not int"),
    ],
)
def test_load_backbone_names_from_modules_for_an_object_of_torch(given, says):
    with pytest.raises(InvalidParameterError, match=says) as caught:
        load_backbone(given)
    assert len(str(caught.value)) < 400


def test_load_backbone_names_the_folder_for_a_model_of_transformers(tmp_path, monkeypatch):
    from transformers import AutoModel, AutoTokenizer

    folder, source = "saved", small_bert()
    model = AutoModel.from_pretrained(source)
    for make in (load_backbone, Backbone.from_modules):
        with pytest.raises(
            InvalidParameterError, match=r"Save it, model\.save_pretrained\(folder\).*=f'hf/\{folder\}'"
        ):
            make(model)
    monkeypatch.chdir(tmp_path)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    assert load_backbone(f"hf/{folder}").modality == "text"


@pytest.mark.parametrize("weights", [resnet18(), resnet18().state_dict()])
def test_load_backbone_weights_of_another_type_are_shown_in_short(weights):
    with pytest.raises(InvalidParameterError, match="must be 'pretrained', 'random', or the path") as caught:
        load_backbone("tiny/cnn", weights=weights)
    assert len(str(caught.value)) < 300


def test_from_modules_names_the_stage_that_does_not_take_its_input():
    stages = list(resnet18().named_children())
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    says = r"stage 'fc' \(Linear\) .* of shape \(n, 512, 1, 1\): .*nn\.Sequential\(nn\.Flatten\(\), fc\).* as head"
    with pytest.raises(InvalidParameterError, match=says):
        ImageFeaturizer(Backbone.from_modules(stages)).fit(images)
    *body, (_, fc) = stages
    backbone = Backbone.from_modules(body, head=fc, categories=[str(i) for i in range(1000)])
    assert ImageFeaturizer(backbone).fit_transform(images).shape == (2, 512)
    assert PretrainedClassifier(backbone).predict_proba(images).shape == (2, 1000)
    flat = Backbone.from_modules([*body, ("fc", nn.Sequential(nn.Flatten(), fc))])
    assert ImageFeaturizer(flat).fit_transform(images).shape == (2, 1000)
    with pytest.raises(
        InvalidParameterError, match=r"stage 'layer1' .* \(n, 3, 64, 64\): .* in the order of the network"
    ):
        ImageFeaturizer(Backbone.from_modules(stages[4:])).fit(images)


@pytest.mark.parametrize(
    ("change", "given"),
    [
        (lambda x: (x, x), "a tuple"),
        (lambda x: x.numpy(), "a ndarray"),
        (lambda x: x.mean(), r"a tensor of shape \(\)"),
        (lambda x: x[:1], r"a tensor of shape \(1, 8, 6, 6\) for 4 samples"),
        (lambda x: x[:, :, None], r"a tensor of shape \(4, 8, 1, 6, 6\)"),
    ],
)
def test_a_stage_returns_one_tensor_with_a_row_per_sample(change, given):
    class Changed(nn.Module):
        def forward(self, x):
            return change(x)

    stages = [("conv", nn.Conv2d(3, 8, 3)), ("changed", Changed())]
    featurizer = ImageFeaturizer(Backbone.from_modules(stages, input_size=(8, 8)), layer=-1, cache=None)
    with pytest.raises(InvalidParameterError, match=f"the stage Changed returns {given}.* a row per sample"):
        featurizer.fit_transform(np.zeros((4, 8, 8, 3), np.uint8))
