from __future__ import annotations

import pickle
import sys
import textwrap
from importlib.metadata import EntryPoint

import pytest
import torch
from safetensors.torch import save_file
from toys import STAGES, image_network

import sktransfer.backbones.registry as home
from sktransfer import Backbone, list_backbones, load_backbone
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.backbones.registry import BUILT_IN, Registry, modality_of
from sktransfer.exceptions import BackboneNotFoundError, InvalidParameterError, PluginError, WeightsError

HEAD = "from sktransfer import BackboneSpec, hookimpl\n"


def spec(name, expression=None):
    """Return the code of a spec, whose name may be an expression."""
    name = repr(name) if expression is None else expression
    return f"BackboneSpec(name={name}, loader='toys:load_image', modality='image', stages={STAGES!r})"


def backbones(*specs):
    return f"{HEAD}@hookimpl\ndef sktransfer_backbones():\n    return [{', '.join(specs)}]\n"


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Write a plugin's module, and return its entry point."""
    monkeypatch.syspath_prepend(tmp_path)
    modules = []

    def write(name, source, module=None):
        module = f"sktransfer_toy_{name}" if module is None else module
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        return EntryPoint(name, module, "sktransfer")

    yield write
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def use(monkeypatch):
    """Make some entry points those of the process."""

    def put(*entries):
        made = Registry(found=lambda: entries, environ={})
        monkeypatch.setattr(home, "_registry", made)
        monkeypatch.setattr(home, "_loaded", type(home._loaded)())
        monkeypatch.setattr(home, "_recent", type(home._recent)())
        return made

    return put


@pytest.fixture
def good(plugin, use):
    return use(plugin("good", backbones(spec("good/small"), spec("good/other"))))


BROKEN = {
    "missing": "import a_library_that_is_not_there",
    "operator": "raise RuntimeError('operator torchvision::nms does not exist')",
    "leaves": "import sys\nsys.exit('no licence')",
    "generator": HEAD
    + "@hookimpl\ndef sktransfer_backbones():\n    yield from ()\n    raise OSError('libcudart.so.12')\n",
    "typo": HEAD + "@hookimpl\ndef sktransfer_backbone():\n    return []\n",
    "argument": HEAD + "@hookimpl\ndef sktransfer_backbones(colour):\n    return []\n",
    "unmarked": HEAD + "def sktransfer_backbones():\n    return []\n",
    "prefix": backbones(spec("good/stolen")),
    "field": backbones("BackboneSpec(name='field/a', loader='a:b', modality='image', stages={'s': 1}, colour='red')"),
    "future": backbones("BackboneSpec(name='future/a', loader='a:b', modality='image', stages={'s': 1}, contract=99)"),
    "twice": backbones(spec("twice/a"), spec("twice/a")),
    "strings": backbones("'strings/a'"),
    "nothing": HEAD + "@hookimpl\ndef sktransfer_backbones():\n    return 3\n",
}
SAYS = {
    "missing": "a_library_that_is_not_there",
    "operator": "RuntimeError: operator torchvision::nms",
    "leaves": "SystemExit: no licence",
    "generator": "OSError: libcudart.so.12",
    "typo": "unknown hook 'sktransfer_backbone'",
    "argument": "colour",
    "unmarked": "no function marked with @hookimpl",
    "prefix": "'good/stolen' lacks the prefix 'prefix/'",
    "field": "colour",
    "future": "contract 99",
    "twice": "'twice' declares a name twice",
    "strings": "must give BackboneSpec objects, not str",
    "nothing": "'int' object is not iterable",
}


def test_a_good_plugin_is_listed_and_its_backbone_loaded(good):
    assert good.sources["good"] == "sktransfer_toy_good"
    assert good.failures == {}
    assert "good/small" in set(list_backbones()["name"])
    backbone = load_backbone("good/small", weights="random")
    assert isinstance(backbone, Backbone)
    assert backbone.stage_names == tuple(STAGES)
    assert not backbone.pretrained


def test_a_plugin_is_imported_without_its_loader(plugin):
    source = backbones("BackboneSpec(name='lazy/a', loader='not_written:load', modality='image', stages={'s': 1})")
    made = Registry(found=lambda: [plugin("lazy", source)], environ={})
    assert made.find("lazy/a").loader == "not_written:load"
    assert made.failures == {}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_harms_nobody_and_its_failure_is_told(name, plugin):
    entries = [plugin(name, BROKEN[name]), plugin("good", backbones(spec("good/small")))]
    made = Registry(found=lambda: entries, environ={})
    assert list(made.failures) == [f"{name} = sktransfer_toy_{name}"]
    assert name not in made.sources
    assert {one.provider for one in made.specs.values()} == {"good", *(built_in.name for built_in in BUILT_IN)} - {"hf"}
    assert made.find("good/small").name == "good/small"
    with pytest.raises(BackboneNotFoundError) as caught:
        made.find(f"{name}/a")
    assert f"{name} = sktransfer_toy_{name}" in str(caught.value)
    assert SAYS[name] in str(caught.value)


def test_an_interrupt_while_plugins_load_is_not_swallowed(plugin):
    with pytest.raises(KeyboardInterrupt):
        Registry(found=lambda: [plugin("stops", "raise KeyboardInterrupt")], environ={})


def test_failures_are_not_told_where_they_have_nothing_to_do_with_the_name(plugin):
    made = Registry(found=lambda: [plugin("operator", BROKEN["operator"])], environ={})
    with pytest.raises(BackboneNotFoundError) as caught:
        made.find("tiny/cnm")
    assert "operator" not in str(caught.value)


def test_two_plugins_of_one_name_are_told_with_both_modules(plugin):
    first = plugin("good", backbones(spec("good/small")), module="sktransfer_toy_one")
    second = plugin("good", backbones(spec("good/large")), module="sktransfer_toy_two")
    made = Registry(found=lambda: [second, first], environ={})
    assert made.sources["good"] == "sktransfer_toy_one"
    assert "'good' is taken by sktransfer_toy_one" in str(made.failures["good = sktransfer_toy_two"])
    with pytest.raises(BackboneNotFoundError, match=r"good = sktransfer_toy_two: PluginError: 'good' is taken by"):
        made.find("good/large")


def test_one_install_seen_twice_is_no_clash(plugin):
    entry = plugin("good", backbones(spec("good/small")))
    assert Registry(found=lambda: [entry, EntryPoint(entry.name, entry.value, entry.group)], environ={}).failures == {}


@pytest.mark.parametrize("name", [built_in.name for built_in in BUILT_IN])
def test_a_plugin_cannot_take_a_built_in_name(name, plugin):
    made = Registry(found=lambda: [plugin(name, backbones(spec(f"{name}/cnn")))], environ={})
    assert made.sources[name].startswith("sktransfer.backbones.")
    assert "is taken by sktransfer.backbones." in str(made.failures[f"{name} = sktransfer_toy_{name}"])


def test_a_built_in_name_stays_taken_where_the_built_in_is_broken(plugin, monkeypatch):
    broken = EntryPoint("tiny", "sktransfer_no_such_module", "sktransfer")
    monkeypatch.setattr(home, "BUILT_IN", (broken,))
    made = Registry(found=lambda: [plugin("tiny", backbones(spec("tiny/cnn")))], environ={})
    assert "tiny/cnn" not in made.specs
    assert len(made.failures) == 2


@pytest.mark.parametrize(
    ("allowed", "loaded"), [(None, {"one", "two"}), ("", set()), ("two", {"two"}), (" one , two", {"one", "two"})]
)
def test_plugins_are_filtered_before_they_are_imported(allowed, loaded, plugin):
    entries = [plugin(name, backbones(spec(f"{name}/a"))) for name in ("one", "two")]
    environ = {} if allowed is None else {"SKTRANSFER_PLUGINS": allowed}
    made = Registry(found=lambda: entries, environ=environ)
    assert set(made.sources) - {built_in.name for built_in in BUILT_IN} == loaded
    assert {built_in.name for built_in in BUILT_IN} <= set(made.sources)
    assert {name for name in ("one", "two") if f"sktransfer_toy_{name}" in sys.modules} == loaded


def test_strict_raises_a_plugins_failure(plugin):
    entry = plugin("operator", BROKEN["operator"])
    with pytest.raises(RuntimeError, match="torchvision::nms"):
        Registry(found=lambda: [entry], environ={"SKTRANSFER_STRICT": "1"})


def test_a_bare_name_is_found_where_one_provider_lists_it(good):
    assert good.find("other").name == "good/other"
    assert good.find("resnet50").name == "torchvision/resnet50"


def test_a_bare_name_of_several_providers_lists_them(plugin):
    entries = [plugin(name, backbones(spec(f"{name}/small"))) for name in ("one", "two")]
    made = Registry(found=lambda: entries, environ={})
    with pytest.raises(BackboneNotFoundError, match=r"several providers.*'one/small', 'two/small'"):
        made.find("small")


@pytest.mark.parametrize(
    ("given", "meant"), [("tiny/cmn", "'tiny/cnn'"), ("good/smal", "'good/small'"), ("resnet5", "'resnet50'")]
)
def test_a_wrong_name_is_answered_with_those_near(given, meant, good):
    with pytest.raises(BackboneNotFoundError, match="Did you mean") as caught:
        good.find(given)
    assert meant in str(caught.value)


@pytest.mark.parametrize("name", ["", "/", "good/", "/small"])
def test_half_a_name_is_not_found(name, good):
    with pytest.raises(BackboneNotFoundError):
        good.find(name)


FINDER = HEAD + "@hookimpl\ndef sktransfer_find_backbone(name):\n    "


def test_an_open_family_is_asked_by_name_and_not_listed(plugin):
    made_up = spec(None, "'open/' + name")
    source = f"{FINDER}return None if name == 'absent' else {made_up}\n"
    made = Registry(found=lambda: [plugin("open", source)], environ={})
    assert made.find("open/owner/model").name == "open/owner/model"
    assert not [name for name in made.specs if name.startswith("open/")]
    with pytest.raises(BackboneNotFoundError):
        made.find("open/absent")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise KeyError('x')", "'bad' failed on 'a': KeyError"),
        ("return 'bad/a'", "not str"),
        (f"return {spec('worse/a')}", "lacks the prefix"),
    ],
)
def test_a_finder_that_fails_is_named(body, says, plugin, use):
    made = use(plugin("bad", FINDER + body + "\n"))
    with pytest.raises(PluginError, match=says):
        made.find("bad/a")
    assert modality_of("bad/a") is None


def test_modality_is_told_without_loading(good):
    assert modality_of("good/small") == "image"
    assert modality_of("good/absent") is None
    assert modality_of("hf/someone/never-fetched") is None
    assert modality_of(load_backbone("good/small", weights="random")) == "image"
    assert modality_of(None) is None


def test_one_copy_is_shared(good):
    first = load_backbone("good/small", weights="random")
    assert load_backbone("good/small", weights="random") is first
    assert load_backbone("small", weights="random") is first
    assert load_backbone("good/other", weights="random") is not first
    assert load_backbone(first) is first


def test_what_is_held_stays_shared_and_what_is_not_is_dropped(good):
    held = [load_backbone("good/small", weights="random", seed=seed) for seed in range(home._KEPT + 3)]
    assert all(load_backbone("good/small", weights="random", seed=n) is one for n, one in enumerate(held))
    del held
    assert len(home._loaded) == home._KEPT


def test_random_weights_follow_the_seed_and_leave_the_global_generator(good):
    before = torch.random.get_rng_state()
    zero, one = (load_backbone("good/small", weights="random", seed=seed).fingerprint() for seed in (0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert zero != one
    home._loaded.clear()
    home._recent.clear()
    torch.rand(5)
    assert load_backbone("good/small", weights="random", seed=0).fingerprint() == zero


def test_random_weights_leave_the_generators_of_gpus(good, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)  # what torch.manual_seed goes on to
    load_backbone("good/small", weights="random", seed=77)
    assert seeded == []


def save(path, seed, **metadata):
    save_file(image_network(seed).state_dict(), path, metadata)
    return path


def test_a_local_file_is_read(good, tmp_path):
    backbone = load_backbone("good/small", weights=save(tmp_path / "w.safetensors", 5))
    assert backbone.pretrained
    expected = image_network(5)["stages"]["stem"][0].weight
    assert torch.equal(dict(backbone.stages[0].named_parameters())["body.0.0.weight"], expected)


def test_a_file_written_anew_under_its_name_is_loaded_anew(good, tmp_path):
    path = save(tmp_path / "w.safetensors", 5)
    first = load_backbone("good/small", weights=path)
    assert load_backbone("good/small", weights=path) is first
    save(path, 6)
    second = load_backbone("good/small", weights=path)
    assert second.fingerprint() != first.fingerprint()


def test_preprocessing_comes_from_the_files_metadata_unless_it_is_given(good, tmp_path):
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


def test_metadata_that_cannot_be_used_names_the_file(good, tmp_path):
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
def test_what_is_no_name_is_refused(given, says):
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
def test_a_parameter_that_is_not_allowed_is_named(options, says, good):
    with pytest.raises(InvalidParameterError, match=says):
        load_backbone("good/small", **options)


def test_a_backbone_has_its_weights(good):
    backbone = load_backbone("good/small", weights="random")
    with pytest.raises(InvalidParameterError, match="weights='random'"):
        load_backbone(backbone, weights="random")


@pytest.mark.parametrize(
    ("loader", "says"),
    [
        ("not_there:load", "not_there"),
        ("toys:not_there", "not_there"),
        ("toys:image_network", None),
        ("toys:spoilt", "not dict"),
    ],
)
def test_a_loader_that_breaks_the_contract_is_named(loader, says, plugin, use, monkeypatch):
    import toys

    monkeypatch.setattr(toys, "spoilt", lambda spec, path: {}, raising=False)
    source = backbones(f"BackboneSpec(name='bad/a', loader={loader!r}, modality='image', stages={STAGES!r})")
    use(plugin("bad", source))
    if says is None:
        says, error = "2 were given", TypeError  # the author's own error, as it is
    else:
        error = PluginError
    with pytest.raises(error, match=says):
        load_backbone("bad/a", weights="random")


def test_a_backbone_is_pickled_by_name(good, tmp_path):
    path = save(tmp_path / "w.safetensors", 5)
    for options in ({"weights": "random", "seed": 3}, {"weights": path}):
        backbone = load_backbone("good/small", **options)
        packed = pickle.dumps(backbone)
        assert len(packed) < 1000
        assert pickle.loads(packed) is backbone
        changed = backbone.with_preprocess(ImageTransform(resize=5))
        back = pickle.loads(pickle.dumps(changed))
        assert back.preprocess == changed.preprocess
        assert back.stages is backbone.stages


def test_unpickling_is_refused_where_the_weights_are_others(good, tmp_path):
    path = save(tmp_path / "w.safetensors", 5)
    packed = pickle.dumps(load_backbone("good/small", weights=path))
    save(path, 6)
    with pytest.raises(PluginError, match="its fingerprint is"):
        pickle.loads(packed)


def test_unpickling_is_refused_where_the_preprocessing_is_another(good, tmp_path):
    path = save(tmp_path / "w.safetensors", 5)
    packed = pickle.dumps(load_backbone("good/small", weights=path))
    save(path, 5, preprocess='{"resize": 9}')
    with pytest.raises(PluginError, match="its preprocessing is"):
        pickle.loads(packed)


def test_listing_filters(good):
    everything = list_backbones()
    assert list(everything.columns) == ["name", "modality", "n_stages", "width", "input_size", "licence"]
    assert list_backbones(pattern="good/*")["name"].tolist() == ["good/small", "good/other"]
    row = list_backbones(pattern="good/small").iloc[0]
    assert (row["modality"], row["n_stages"], row["width"], row["licence"]) == ("image", 3, 5, "unknown")
    assert set(list_backbones("image")["modality"]) == {"image"}
    assert list_backbones("text", "good/*").empty
    assert list(list_backbones(pattern="nothing").columns) == list(everything.columns)
    with pytest.raises(InvalidParameterError, match=r"modality='sound'.*'image', 'text'"):
        list_backbones("sound")


def test_threads_that_ask_at_once_get_one_copy(good):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: load_backbone("good/small", weights="random"), range(16)))
    assert len(set(map(id, found))) == 1
