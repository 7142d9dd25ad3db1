from __future__ import annotations

import json
from importlib.metadata import EntryPoint

import pytest

from sktransfer.backbones.plugins import Plugin, check_spec, is_allowed, reason
from sktransfer.backbones.registry import BUILT_IN
from sktransfer.backbones.spec import BackboneSpec
from sktransfer.exceptions import PluginError
from tests.helpers.plugin_zoo import (
    BROKEN,
    ELSEWHERE,
    STAGES,
    WORKING,
    Distribution,
    distribution,
    imported,
    install,
    offers,
    python,
    spec,
    zoo,
)

REPORT = """
import json, sys, sktransfer
from dataclasses import asdict
from sktransfer.backbones.registry import registry

def error(call, *arguments, **options):
    try:
        return repr(call(*arguments, **options))
    except BaseException as error:
        return f"{type(error).__name__}: {error}"

known = registry()
heavy = sorted({"torch", "numpy", "sklearn", "pandas"} & set(sys.modules))
providers = [plugin.name for plugin in known.plugins]
found = {name: error(known.find, f"{name}/a") for name in providers}
asked = ["finder/key", "finder/os", "finder/exit", "open/absent", "open/text", "open/x"]
found |= {name: error(known.find, name) for name in asked}
loads = ["tiny/cnn", "good/small", "loaders/missing", "loaders/broken", "loaders/leaves", "loaders/absent"]
print(json.dumps({
    "heavy": heavy,
    "plugins": [asdict(plugin) for plugin in known.plugins],
    "found": found,
    "listed": sktransfer.list_backbones()["name"].tolist(),
    "frame": sktransfer.list_plugins()["name"].tolist(),
    "loaded": {name: error(sktransfer.load_backbone, name, weights="random") for name in loads},
}))
"""
PLUGINS = "import json; from dataclasses import asdict; from sktransfer.backbones.registry import registry; "
PLUGINS += "print(json.dumps([asdict(plugin) for plugin in registry().plugins]))"
BUILT_INS = {entry.name for entry in BUILT_IN}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Install the whole zoo, one of its distributions twice, and return what one process says of it."""
    folder = install(tmp_path_factory.mktemp("site"))
    again = install(tmp_path_factory.mktemp("again"), [distribution("good", WORKING["good"])])
    done = python("-c", REPORT, path=[folder, again])
    said = json.loads(done.stdout.splitlines()[-1])  # one of the plugins prints as well
    said["plugins"] = [plugin for plugin in said["plugins"] if plugin["name"] not in ELSEWHERE]
    said["frame"] = [name for name in said["frame"] if name not in ELSEWHERE]
    said["listed"] = [name for name in said["listed"] if name.partition("/")[0] not in ELSEWHERE]
    return said


def one(report, name):
    (found,) = [plugin for plugin in report["plugins"] if plugin["name"] == name]
    return found


@pytest.mark.process
@pytest.mark.parametrize("name", [name for name in BROKEN if name not in BUILT_INS])
def test_list_plugins_shows_distribution_and_error_of_a_broken_plugin(name, report):
    plugin = one(report, name)
    says = BROKEN[name][1]
    assert (plugin["status"], plugin["module"]) == ("failed", f"zoo_{name}")
    assert (plugin["distribution"], plugin["version"]) == (f"zoo-{name}", "1.2")
    assert says in plugin["error"]
    assert "\n" not in plugin["error"]
    assert not [listed for listed in report["listed"] if listed.startswith(f"{name}/")]
    error = report["found"][name]
    assert error.startswith("BackboneNotFoundError: ")
    assert f"{name} = zoo_{name} of zoo-{name} 1.2: " in error
    assert says in error


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent", "No module named 'zoo_module_that_is_not_there'"),
        ("value", "'not a module!', which cannot be the name of a module"),
        ("instance", "zoo_instance:plugin must be a module, not dict"),
    ],
)
def test_list_plugins_reports_an_entry_point_without_a_module(name, says, report):
    assert one(report, name)["status"] == "failed"
    assert says in one(report, name)["error"]


@pytest.mark.process
def test_list_plugins_loads_the_others_beside_broken_plugins(report):
    assert {plugin["name"] for plugin in report["plugins"] if plugin["status"] == "loaded"} == {
        *BUILT_INS,
        *WORKING,
        "nameless",
    }
    assert {name.partition("/")[0] for name in report["listed"]} == {
        *BUILT_INS,
        *(set(WORKING) - {"finder", "open"}),
        "nameless",
    }
    assert report["loaded"]["tiny/cnn"].startswith("Backbone('tiny/cnn'")
    assert report["loaded"]["good/small"] == f"Backbone('good/small', stages={list(STAGES)})"
    assert len(report["plugins"]) == len(BUILT_IN) + len(zoo())
    assert report["frame"] == [plugin["name"] for plugin in report["plugins"]]
    assert report["heavy"] == []


@pytest.mark.process
def test_list_plugins_n_backbones_and_open_family_of_a_working_plugin(report):
    assert (one(report, "good")["n_backbones"], one(report, "good")["open_family"]) == (2, False)
    assert (one(report, "open")["n_backbones"], one(report, "open")["open_family"]) == (0, True)
    assert one(report, "good")["error"] == ""


@pytest.mark.process
def test_list_plugins_seconds_is_the_loading_time(report):
    assert one(report, "slow")["seconds"] > 0.25
    assert one(report, "slow")["status"] == "loaded"
    assert one(report, "good")["seconds"] > 0


@pytest.mark.process
def test_list_plugins_loads_a_plugin_without_metadata(report):
    assert (one(report, "nameless")["distribution"], one(report, "nameless")["version"]) == ("", "")


@pytest.mark.process
def test_list_plugins_names_both_distributions_of_a_clash_and_loads_neither(report):
    twins = [plugin for plugin in report["plugins"] if plugin["name"] == "twin"]
    assert [plugin["status"] for plugin in twins] == ["failed", "failed"]
    for plugin in twins:
        assert "zoo_twin_one of zoo-twin-one 0.1" in plugin["error"]
        assert "zoo_twin_two of zoo-twin-two 0.2" in plugin["error"]
        assert "SKTRANSFER_PLUGINS" in plugin["error"]


@pytest.mark.process
def test_list_plugins_refuses_a_built_in_name_for_third_parties(report):
    mine, theirs = [plugin for plugin in report["plugins"] if plugin["name"] == "tiny"]
    assert (mine["status"], mine["distribution"]) == ("loaded", "sktransfer")
    assert (theirs["status"], theirs["distribution"]) == ("failed", "zoo-tiny")
    assert BROKEN["tiny"][1] in theirs["error"]


@pytest.mark.process
def test_sktransfer_find_backbone_failure_names_the_distribution(report):
    for name, kind in (("key", "KeyError"), ("os", "OSError"), ("exit", "SystemExit")):
        error = report["found"][f"finder/{name}"]
        assert error.startswith("PluginError: the plugin finder = zoo_finder of zoo-finder 1.2 failed when asked for")
        assert kind in error
    assert report["found"]["open/absent"].startswith("BackboneNotFoundError")
    assert report["found"]["open/text"].endswith("must return BackboneSpec objects, not str")
    assert "name='open/found'" in report["found"]["open/x"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "ModuleNotFoundError: No module named 'a_library_that_is_not_there'"),
        ("broken", "RuntimeError: operator torchvision::nms does not exist"),
        ("leaves", "SystemExit: no licence"),
        ("absent", "AttributeError: module 'zoo_network' has no attribute 'not_there'"),
    ],
)
def test_load_backbone_failure_names_the_distribution_and_a_remedy(name, says, report):
    error = report["loaded"][f"loaders/{name}"]
    assert error.startswith(f"PluginError: loaders/{name}: ")
    assert says in error
    assert "loaders = zoo_loaders of zoo-loaders 1.2" in error
    assert "pip install --upgrade --force-reinstall zoo-loaders" in error


@pytest.mark.process
@pytest.mark.parametrize(
    ("value", "loaded"),
    [
        ("", set()),
        (" , ", set()),
        ("good", {"good"}),
        ("zoo-good, slow", {"good", "slow"}),
        ("Zoo_Twin.Two", {"twin"}),
        ("nobody", set()),
    ],
)
def test_sktransfer_plugins_prevents_imports_of_plugins_not_allowed(value, loaded, tmp_path):
    folder = install(tmp_path)
    plugins = json.loads(python("-c", PLUGINS, path=[folder], SKTRANSFER_PLUGINS=value).stdout.splitlines()[-1])
    own = [plugin for plugin in plugins if plugin["name"] not in ELSEWHERE]
    status = {(plugin["name"], plugin["distribution"]): plugin["status"] for plugin in own}
    assert {name for (name, _), found in status.items() if found == "loaded"} == BUILT_INS | loaded
    assert list(status.values()).count("not allowed") == len(zoo()) - len(loaded)
    assert imported(folder) == {"zoo_twin_two" if name == "twin" else f"zoo_{name}" for name in loaded}


@pytest.mark.process
def test_sktransfer_plugins_error_names_the_plugin_left_out(tmp_path):
    folder = install(tmp_path, [distribution("good", WORKING["good"])])
    code = "import sktransfer; sktransfer.load_backbone('good/small')"
    done = python("-c", code, path=[folder], check=False, SKTRANSFER_PLUGINS="")
    assert "good = zoo_good of zoo-good 1.2 is installed, but SKTRANSFER_PLUGINS leaves it out" in done.stderr


@pytest.mark.process
@pytest.mark.parametrize("name", ["missing", "leaves", "field", "tiny"])
def test_sktransfer_strict_raises_a_failure_with_its_cause(name, tmp_path):
    folder = install(tmp_path, [distribution(name, BROKEN[name][0])])
    code = "import sktransfer; sktransfer.list_backbones()"
    done = python("-c", code, path=[folder], check=False, SKTRANSFER_STRICT="1")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("sktransfer.exceptions.PluginError: the plugin ")
    assert f"of zoo-{name} 1.2 could not be loaded: " in last
    assert BROKEN[name][1] in last
    assert python("-c", code, path=[folder], SKTRANSFER_STRICT="0").returncode == 0


def damaged(name, text):
    return Distribution(name, "", text, name.replace("-", "_"))


@pytest.mark.process
def test_list_plugins_tolerates_unreadable_entry_points(tmp_path):
    folder = install(
        tmp_path / "site",
        [
            distribution("good", WORKING["good"]),
            damaged("zoo-damaged", "[sktransfer]\nno sign of equality\n"),
            damaged("zoo-stranger", "[console_scripts]\nno sign of equality\n"),
        ],
    )
    older = distribution("good", offers(spec("good/old")), version="0.9")
    older.entry_points = "[sktransfer]\ngood = zoo_good_of_old\n"
    again = install(tmp_path / "again", [older])  # hidden by the first on the path
    plugins = json.loads(python("-c", PLUGINS, path=[folder, again]).stdout)
    third = [plugin for plugin in plugins if plugin["name"] not in BUILT_INS | ELSEWHERE]
    assert [(plugin["distribution"], plugin["status"]) for plugin in third] == [
        ("zoo-damaged", "failed"),
        ("zoo-good", "loaded"),
    ]
    assert "entry_points.txt cannot be read" in third[0]["error"]


def test_reason_is_one_line_with_the_type():
    assert reason(ValueError("a\n  b")) == "ValueError: a b"
    assert reason(KeyError()) == "KeyError"
    assert reason(PluginError("as it is")) == "as it is"


def test_is_allowed_takes_an_entry_point_without_distribution_by_name():
    entry = EntryPoint("good", "module", "sktransfer")
    assert is_allowed(entry, {})
    assert is_allowed(entry, {"SKTRANSFER_PLUGINS": "other,good"})
    assert not is_allowed(entry, {"SKTRANSFER_PLUGINS": "other"})


def test_label_and_source_show_what_is_known_of_a_plugin():
    bare = Plugin(name="a", module="b", status="loaded")
    assert (bare.label, bare.source) == ("a = b", "b")
    whole = Plugin(name="a", module="b", status="loaded", distribution="c", version="1")
    assert (whole.label, whole.source) == ("a = b of c 1", "c 1")


def test_check_spec_requires_the_prefix_of_the_plugin():
    made = BackboneSpec(name="a/b", loader="c:d", modality="image", stages={"s": 1})
    assert check_spec(made, "a") is made
    with pytest.raises(PluginError, match="'a/b' lacks the prefix 'other/'"):
        check_spec(made, "other")
