from __future__ import annotations

import dataclasses
import sys
from importlib.metadata import EntryPoint

import pytest
import torch

import sktransfer.backbones.registry as home
from sktransfer import Backbone, list_backbones, list_plugins, load_backbone
from sktransfer.backbones.plugins import Plugin
from sktransfer.backbones.registry import BUILT_IN, Registry, backbone_rows, modality_of, registry
from sktransfer.exceptions import BackboneNotFoundError, InvalidParameterError, PluginError
from sktransfer.weights.locate import locate
from tests.helpers.plugin_zoo import BROKEN, FINDER, offers, toy_spec
from tests.helpers.toys import STAGES

pytest_plugins = ["tests.helpers.plugin_zoo_fixtures"]


def test_list_backbones_and_load_backbone_know_a_good_plugin(good):
    assert good.sources["good"] == "sktransfer_toy_good"
    assert good.failures == {}
    assert "good/small" in set(list_backbones()["name"])
    backbone = load_backbone("good/small", weights="random")
    assert isinstance(backbone, Backbone)
    assert backbone.stage_names == tuple(STAGES)
    assert not backbone.pretrained


def test_registry_imports_a_plugin_without_its_loader(plugin):
    source = offers(toy_spec("lazy/a", loader="not_written:load"))
    made = Registry(entry_points=lambda: [plugin("lazy", source)], environ={})
    assert made.find("lazy/a").loader == "not_written:load"
    assert made.failures == {}


def test_find_imports_the_plugin_of_the_name_only(plugin):
    entries = [plugin(name, offers(toy_spec(f"{name}/a"))) for name in ("one", "two")]
    made = Registry(entry_points=lambda: entries, environ={})
    modules = [f"sktransfer_toy_{name}" for name in ("one", "two")]
    assert made.find("tiny/cnn").name == "tiny/cnn"
    assert not set(modules) & set(sys.modules)
    assert made.plugin("two").n_backbones == 1
    assert made.find("two/a").name == "two/a"
    assert modules[0] not in sys.modules
    assert {"one/a", "two/a"} <= set(made.specs)
    assert modules[0] in sys.modules


def test_find_imports_all_plugins_for_a_name_without_prefix(plugin):
    made = Registry(entry_points=lambda: [plugin("one", offers(toy_spec("one/only")))], environ={})
    assert made.find("only").name == "one/only"
    assert [entry.status for entry in made.plugins] == ["loaded"] * 4


def test_registry_lets_keyboardinterrupt_pass(plugin):
    made = Registry(entry_points=lambda: [plugin("stops", "raise KeyboardInterrupt")], environ={})
    with pytest.raises(KeyboardInterrupt):
        made.find("stops/a")


def test_find_reports_only_failures_that_concern_the_name(plugin):
    made = Registry(entry_points=lambda: [plugin("operator", BROKEN["operator"][0])], environ={})
    with pytest.raises(BackboneNotFoundError) as caught:
        made.find("tiny/cnm")
    assert "operator" not in str(caught.value)
    with pytest.raises(BackboneNotFoundError, match="operator = sktransfer_toy_operator: RuntimeError"):
        made.find("absent/cnm")


def test_find_names_only_plugins_that_have_backbones(plugin):
    runtimes = """
        from sktransfer.backbones import hookimpl
        @hookimpl
        def sktransfer_runtimes():
            return []
    """
    entries = [plugin("fast", runtimes), plugin("good", offers(toy_spec("good/small")))]
    made = Registry(entry_points=lambda: entries, environ={})
    assert {"fast", "good"} <= set(made.sources)
    with pytest.raises(BackboneNotFoundError, match=r"all of \['good', 'hf', 'tiny', 'torchvision'\]"):
        made.find("good/smal")
    with pytest.raises(BackboneNotFoundError) as caught:
        made.find("fas/small")
    assert "fast" not in str(caught.value)


def test_failures_name_two_plugins_of_one_name_and_neither_is_loaded(plugin):
    first = plugin("good", offers(toy_spec("good/small")), module="sktransfer_toy_one")
    second = plugin("good", offers(toy_spec("good/large")), module="sktransfer_toy_two")
    made = Registry(entry_points=lambda: [second, first], environ={})
    assert "good" not in made.sources
    assert set(made.failures) == {"good = sktransfer_toy_one", "good = sktransfer_toy_two"}
    assert not {"sktransfer_toy_one", "sktransfer_toy_two"} & set(sys.modules)
    with pytest.raises(BackboneNotFoundError, match=r"claimed by \w+_toy_two of .* and by \w+_toy_one of"):
        made.find("good/large")


def test_failures_are_empty_for_one_install_found_twice(plugin):
    entry = plugin("good", offers(toy_spec("good/small")))
    assert (
        Registry(entry_points=lambda: [entry, EntryPoint(entry.name, entry.value, entry.group)], environ={}).failures
        == {}
    )


@pytest.mark.parametrize("name", [built_in.name for built_in in BUILT_IN])
def test_failures_name_a_plugin_with_a_built_in_name(name, plugin):
    made = Registry(entry_points=lambda: [plugin(name, offers(toy_spec(f"{name}/cnn")))], environ={})
    assert made.sources[name].startswith("sktransfer.providers.")
    assert "is taken by sktransfer.providers." in str(made.failures[f"{name} = sktransfer_toy_{name}"])


def test_failures_name_a_plugin_with_the_name_of_a_broken_built_in(plugin, monkeypatch):
    broken = EntryPoint("tiny", "sktransfer_no_such_module", "sktransfer")
    monkeypatch.setattr(home, "BUILT_IN", (broken,))
    made = Registry(entry_points=lambda: [plugin("tiny", offers(toy_spec("tiny/cnn")))], environ={})
    assert "tiny/cnn" not in made.specs
    assert len(made.failures) == 2


@pytest.mark.parametrize(
    ("allowed", "loaded"), [(None, {"one", "two"}), ("", set()), ("two", {"two"}), (" one , two", {"one", "two"})]
)
def test_sktransfer_plugins_filters_before_the_import(allowed, loaded, plugin):
    entries = [plugin(name, offers(toy_spec(f"{name}/a"))) for name in ("one", "two")]
    environ = {} if allowed is None else {"SKTRANSFER_PLUGINS": allowed}
    made = Registry(entry_points=lambda: entries, environ=environ)
    assert set(made.sources) - {built_in.name for built_in in BUILT_IN} == loaded
    assert {built_in.name for built_in in BUILT_IN} <= set(made.sources)
    assert {name for name in ("one", "two") if f"sktransfer_toy_{name}" in sys.modules} == loaded


def test_sktransfer_strict_raises_the_failure_of_a_plugin(plugin):
    entry = plugin("operator", BROKEN["operator"][0])
    with pytest.raises(
        PluginError, match=r"operator = sktransfer_toy_operator could not be loaded.*vision::nms"
    ) as caught:
        Registry(entry_points=lambda: [entry], environ={"SKTRANSFER_STRICT": "1"})
    assert type(caught.value.__cause__) is RuntimeError


def test_find_takes_a_bare_name_of_one_provider(good):
    assert good.find("other").name == "good/other"
    assert good.find("resnet50").name == "torchvision/resnet50"


def test_find_lists_the_providers_of_an_ambiguous_bare_name(plugin):
    entries = [plugin(name, offers(toy_spec(f"{name}/small"))) for name in ("one", "two")]
    made = Registry(entry_points=lambda: entries, environ={})
    with pytest.raises(BackboneNotFoundError, match=r"several providers.*'one/small', 'two/small'"):
        made.find("small")


@pytest.mark.parametrize(
    ("given", "meant"),
    [("tiny/cmn", "'tiny/cnn'"), ("good/smal", "'good/small'"), ("resnet5", "'torchvision/resnet50'")],
)
def test_find_suggests_near_names(given, meant, good):
    with pytest.raises(BackboneNotFoundError, match="Did you mean") as caught:
        good.find(given)
    assert meant in str(caught.value)


@pytest.mark.parametrize("name", ["", "/", "good/", "/small"])
def test_find_refuses_half_a_name(name, good):
    with pytest.raises(BackboneNotFoundError):
        good.find(name)


def test_find_asks_an_open_family_by_name(plugin):
    made_up = toy_spec("open/NAME").replace("'open/NAME'", "'open/' + name")
    source = f"{FINDER}return None if name == 'absent' else {made_up}\n"
    made = Registry(entry_points=lambda: [plugin("open", source)], environ={})
    assert made.find("open/owner/model").name == "open/owner/model"
    assert not [name for name in made.specs if name.startswith("open/")]
    with pytest.raises(BackboneNotFoundError):
        made.find("open/absent")


def test_find_completes_a_summary_by_the_finder(plugin, use):
    listed, found = (toy_spec("open/owner/model", licence="MIT", **more) for more in ({"summary": True}, {}))
    made = use(
        plugin("open", f"{offers(listed)}\n\n@hookimpl\ndef sktransfer_find_backbone(name):\n    return {found}\n")
    )
    assert made.specs["open/owner/model"].summary
    assert not made.find("open/owner/model").summary
    assert list_backbones(pattern="open/*")["licence"].tolist() == ["MIT"]
    assert modality_of("open/owner/model") == "image"
    with pytest.raises(BackboneNotFoundError):
        made.find("owner/model")  # a hub id, which several providers may have


def test_failures_name_a_summary_without_a_finder(plugin):
    made = Registry(entry_points=lambda: [plugin("bad", offers(toy_spec("bad/a", summary=True)))], environ={})
    assert "'bad/a' is a summary" in made.failures["bad = sktransfer_toy_bad"]
    assert "bad/a" not in made.specs


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise KeyError('x')", "bad = sktransfer_toy_bad failed when asked for 'a': KeyError"),
        ("return 'bad/a'", "not str"),
        (f"return {toy_spec('worse/a')}", "lacks the prefix"),
    ],
)
def test_find_names_a_finder_that_fails(body, says, plugin, use):
    made = use(plugin("bad", FINDER + body + "\n"))
    with pytest.raises(PluginError, match=says):
        made.find("bad/a")
    assert modality_of("bad/a") is None


def test_modality_of_does_not_load(good):
    assert modality_of("good/small") == "image"
    assert modality_of("good/absent") is None
    assert modality_of("hf/someone/never-fetched") is None
    assert modality_of(load_backbone("good/small", weights="random")) == "image"
    assert modality_of(None) is None


def test_list_backbones_filters_by_modality_and_pattern(good):
    everything = list_backbones()
    facts = ["n_parameters", "bytes", "accuracy", "benchmark", "language", "available"]
    assert list(everything.columns) == ["name", "modality", "n_stages", "width", "input_size", *facts, "licence"]
    assert list_backbones(pattern="good/*")["name"].tolist() == ["good/small", "good/other"]
    row = list_backbones(pattern="good/small").iloc[0]
    assert (row["modality"], row["n_stages"], row["width"], row["licence"]) == ("image", 3, 5, "unknown")
    assert set(list_backbones("image")["modality"]) == {"image"}
    assert list_backbones("text", "good/*").empty
    assert list(list_backbones(pattern="nothing").columns) == list(everything.columns)
    with pytest.raises(InvalidParameterError, match=r"modality='sound'.*'image', 'text'"):
        list_backbones("sound")


def test_list_plugins_returns_a_frame(good):
    frame = list_plugins()
    assert list(frame.columns) == [field.name for field in dataclasses.fields(Plugin)]
    assert frame["name"].tolist() == [*(built_in.name for built_in in BUILT_IN), "good"]
    row = frame.set_index("name").loc["good"]
    assert (row["status"], row["n_backbones"], row["module"]) == ("loaded", 2, "sktransfer_toy_good")
    assert good.plugin("good").n_backbones == 2
    assert good.plugin("absent") is None


def test_registry_refuses_a_plugin_that_claims_a_built_in_module():
    entry = EntryPoint("tiny", "sktransfer.providers.tiny", "sktransfer")
    made = Registry(entry_points=lambda: [entry], environ={})
    assert "is taken by" in made.failures["tiny = sktransfer.providers.tiny"]
    assert made.plugin("tiny").distribution == "sktransfer"


def test_backbone_rows_equal_list_backbones(good):
    table = list_backbones("image", "good/*").astype(object)
    assert backbone_rows("image", "good/*") == table.where(table.notna(), None).to_dict("records")


def test_list_backbones_states_parameters_bytes_accuracy_and_availability(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    columns = ["n_parameters", "bytes", "accuracy", "available"]
    table = list_backbones().set_index("name")[columns]
    assert table.loc["torchvision/resnet18"].tolist() == [11_689_512, 46_830_453, 0.69758, "fetch"]
    assert table.loc["tiny/cnn", ["n_parameters", "bytes", "available"]].tolist() == [1_438_824, 2_899_432, "here"]
    own = table[table.index.str.startswith(("torchvision/", "tiny/"))]
    assert own[["n_parameters", "bytes"]].notna().all(axis=None)
    assert own["accuracy"].between(0.5, 0.9).sum() == len(own) - 2  # tiny/* are not measured on ImageNet-1k
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(b"")
    assert list_backbones(pattern="torchvision/resnet18")["available"].tolist() == ["here"]


@pytest.mark.parametrize("name", ["tiny/cnn", "tiny/bert"])
def test_find_states_parameters_and_bytes_of_the_shipped_weights(name):
    spec, backbone = registry().find(name), load_backbone(name)
    parts = [*backbone.stages.parameters(), *([] if backbone.head is None else backbone.head.parameters())]
    assert spec.n_parameters == sum(parameter.numel() for parameter in parts)
    assert spec.weights.size == locate(spec, "pretrained").stat().st_size
