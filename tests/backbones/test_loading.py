from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import save_file

import sktransfer.backbones.loading as home
from sktransfer import load_backbone
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.exceptions import InvalidParameterError, PluginError, WeightsError
from sktransfer.weights.source import WeightsSource
from tests.helpers.misbehaving_server import serving, stalls
from tests.helpers.plugin_zoo import offers, toy_spec
from tests.helpers.toys import image_network

pytest_plugins = ["tests.helpers.download_fixtures", "tests.helpers.plugin_zoo_fixtures"]


def test_load_backbone_shares_one_copy(good):
    first = load_backbone("good/small", weights="random")
    assert load_backbone("good/small", weights="random") is first
    assert load_backbone("small", weights="random") is first
    assert load_backbone("good/other", weights="random") is not first
    assert load_backbone(first) is first


def test_load_backbone_shares_held_copies_and_drops_others(good):
    held = [load_backbone("good/small", weights="random", seed=seed) for seed in range(home._KEPT + 3)]
    assert all(load_backbone("good/small", weights="random", seed=n) is one for n, one in enumerate(held))
    del held
    assert len(home._loaded) == home._KEPT


def test_load_backbone_random_depends_on_seed_and_keeps_the_global_generator(good):
    before = torch.random.get_rng_state()
    zero, one = (load_backbone("good/small", weights="random", seed=seed).fingerprint() for seed in (0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert zero != one
    home._loaded.clear()
    home._recent.clear()
    torch.rand(5)
    assert load_backbone("good/small", weights="random", seed=0).fingerprint() == zero


def test_load_backbone_random_keeps_the_generators_of_gpus(good, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)  # what torch.manual_seed goes on to
    load_backbone("good/small", weights="random", seed=77)
    assert seeded == []


def save(path, seed, **metadata):
    save_file(image_network(seed).state_dict(), path, metadata)
    return path


def test_load_backbone_reads_a_local_file(good, tmp_path):
    backbone = load_backbone("good/small", weights=save(tmp_path / "w.safetensors", 5))
    assert backbone.pretrained
    expected = image_network(5)["stages"]["stem"][0].weight
    assert torch.equal(dict(backbone.stages[0].named_parameters())["body.0.0.weight"], expected)


def test_load_backbone_reloads_a_file_that_has_changed(good, tmp_path):
    path = save(tmp_path / "w.safetensors", 5)
    first = load_backbone("good/small", weights=path)
    assert load_backbone("good/small", weights=path) is first
    save(path, 6)
    second = load_backbone("good/small", weights=path)
    assert second.fingerprint() != first.fingerprint()


def test_load_backbone_preprocess_overrides_the_metadata_of_the_file(good, tmp_path):
    path = save(
        tmp_path / "w.safetensors",
        5,
        preprocess='{"resize": [16, 16], "mean": [0.5, 0.5, 0.5]}',
        categories='["cat", "dog", "eel"]',
        note="not json",
    )
    backbone = load_backbone("good/small", weights=path)
    assert backbone.preprocess == ImageTransform(resize=(16, 16), mean=(0.5, 0.5, 0.5))
    assert backbone.categories == ("cat", "dog", "eel")
    changed = load_backbone("good/small", weights=path, preprocess={"resize": (4, 4)})
    assert changed.preprocess == ImageTransform(resize=(4, 4), mean=(0.5, 0.5, 0.5))
    assert backbone.preprocess.resize == (16, 16)
    assert changed.stages is backbone.stages
    whole = load_backbone("good/small", weights=path, preprocess=ImageTransform())
    assert whole.preprocess == ImageTransform()


def test_load_backbone_names_the_file_with_invalid_metadata(good, tmp_path):
    path = save(tmp_path / "w.safetensors", 5, preprocess='{"size": 3}')
    with pytest.raises(WeightsError, match=r"w\.safetensors.*'size' is not a setting"):
        load_backbone("good/small", weights=path)


class Estimator:
    def fit(self):
        return self

    def __repr__(self):
        return "Estimator()"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Estimator(), r"Estimator.*backbone_ attribute"),
        (3, "backbone=3 .*not int"),
        (None, "backbone=None .*not NoneType"),
    ],
)
def test_load_backbone_refuses_a_value_that_is_no_name(given, says):
    with pytest.raises(InvalidParameterError, match=says):
        load_backbone(given)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"weights": 3}, "weights=3"),
        ({"weights": "pretrained"}, "good/small has none"),
        ({"weights": "random", "preprocess": 3}, "preprocess=3"),
        ({"weights": "random", "preprocess": {"size": 3}}, "'size' is not a setting"),
        ({"weights": "random", "max_length": 3}, "max_length=3.*takes no texts"),
    ],
)
def test_load_backbone_names_a_parameter_that_is_not_allowed(options, says, good):
    with pytest.raises(InvalidParameterError, match=says):
        load_backbone("good/small", **options)


def test_load_backbone_refuses_weights_for_a_backbone_object(good):
    backbone = load_backbone("good/small", weights="random")
    with pytest.raises(InvalidParameterError, match="weights='random'"):
        load_backbone(backbone, weights="random")


@pytest.mark.parametrize(
    ("loader", "says", "cause"),
    [
        ("not_there:load", "ModuleNotFoundError.*not_there", ModuleNotFoundError),
        ("tests.helpers.toys:not_there", "AttributeError.*not_there", AttributeError),
        ("tests.helpers.toys:image_network", "TypeError.*2 were given", TypeError),
        ("tests.helpers.toys:spoilt", "tests.helpers.toys:spoilt must return a Backbone, not dict", type(None)),
    ],
)
def test_load_backbone_names_a_loader_that_breaks_the_contract(loader, says, cause, plugin, use, monkeypatch):
    from tests.helpers import toys

    monkeypatch.setattr(toys, "spoilt", lambda spec, path: {}, raising=False)
    use(plugin("bad", offers(toy_spec("bad/a", loader=loader))))
    with pytest.raises(PluginError, match=says) as caught:
        load_backbone("bad/a", weights="random")
    assert str(caught.value).startswith("bad/a: ")
    assert type(caught.value.__cause__) is cause


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, WeightsError])
def test_load_backbone_passes_on_errors_that_no_plugin_caused(error, plugin, use, monkeypatch):
    from tests.helpers import toys

    def fail(spec, path):
        raise error("as it is")

    monkeypatch.setattr(toys, "failing", fail, raising=False)
    use(plugin("bad", offers(toy_spec("bad/a", loader="tests.helpers.toys:failing"))))
    with pytest.raises(error, match="as it is"):
        load_backbone("bad/a", weights="random")


def test_load_backbone_refuses_settings_for_a_custom_preprocess(good):
    class Plain:
        key, pad_value = "plain", 0

        def __call__(self, samples):
            return samples

    backbone = load_backbone("good/small", weights="random").with_preprocess(Plain())
    assert load_backbone(backbone) is backbone
    with pytest.raises(InvalidParameterError, match="has a preprocessing without settings"):
        load_backbone(backbone, preprocess={"resize": 3})


def test_load_backbone_result_is_pickled_by_name(good, tmp_path):
    path = save(tmp_path / "w.safetensors", 5)
    for options in ({"weights": "random", "seed": 3}, {"weights": path}):
        backbone = load_backbone("good/small", **options)
        packed = pickle.dumps(backbone)
        assert len(packed) < 1000
        assert pickle.loads(packed).stages is backbone.stages
        changed = backbone.with_preprocess(ImageTransform(resize=5))
        back = pickle.loads(pickle.dumps(changed))
        assert back.preprocess == changed.preprocess
        assert back.stages is backbone.stages


def test_load_backbone_refuses_to_unpickle_other_weights(good, tmp_path):
    path = save(tmp_path / "w.safetensors", 5)
    packed = pickle.dumps(load_backbone("good/small", weights=path))
    save(path, 6)
    with pytest.raises(PluginError, match="its fingerprint is"):
        pickle.loads(packed).fingerprint()


def test_load_backbone_refuses_to_unpickle_another_preprocess(good, tmp_path):
    path = save(tmp_path / "w.safetensors", 5)
    packed = pickle.dumps(load_backbone("good/small", weights=path))
    save(path, 5, preprocess='{"resize": 9}')
    with pytest.raises(PluginError, match="its preprocessing is"):
        pickle.loads(packed).fingerprint()


def test_load_backbone_in_several_threads_gives_one_copy(good):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: load_backbone("good/small", weights="random"), range(16)))
    assert len(set(map(id, found))) == 1


@pytest.fixture
def slow_download(plugin, use, tmp_path, monkeypatch, no_proxies):
    """Offer a backbone whose weights a server never sends, beside one without weights, and give the server."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("sktransfer.weights.download.STALL_SECONDS", 60.0)
    monkeypatch.setattr("sktransfer.weights.download.PAUSE_SECONDS", 0.01)
    with serving(b"content", stalls(0)) as server:
        remote = toy_spec("good/remote", weights=WeightsSource(location=f"{server.url}/w"))
        source = "from sktransfer.backbones import WeightsSource"
        use(plugin("good", f"{source}\n{offers(remote, toy_spec('good/small'))}"))
        yield server


@pytest.mark.filterwarnings("ignore:good/remote. downloading")
def test_load_backbone_is_not_blocked_by_another_download(slow_download):
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(load_backbone, "good/remote")
        while not slow_download.asked:
            assert not waiting.done()
            time.sleep(0.01)
        try:
            other = pool.submit(load_backbone, "good/small", weights="random").result(20)
            assert other.name == "good/small"
            assert not waiting.done()
        finally:
            slow_download.over.set()
        with pytest.raises(WeightsError, match="good/remote: looked for"):
            waiting.result()
