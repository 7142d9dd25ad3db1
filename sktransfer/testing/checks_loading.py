"""Checks of loading: without a network, again in a fresh process, twice beside each other, and through pickle."""

from __future__ import annotations

import pickle
from typing import Any

import torch

from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.inputs import collate
from sktransfer.testing.backbone_process import in_fresh_process
from sktransfer.testing.backbone_subject import NotRun, Subject, assert_close, require, rows_of, run_stages

__all__ = ["check_beside_another", "check_offline", "check_pickle", "check_reload"]


def _fresh(subject: Subject) -> dict[str, Any]:
    """Return what a fresh process finds; it runs once a subject, for starting one takes seconds."""
    kept: dict[str, Any] | None = subject.__dict__.get("_fresh")
    if kept is None:
        given: Any = pickle.dumps(subject.given) if isinstance(subject.given, Backbone) else subject.spec.name
        weights = ["random"] if subject.is_loaded or subject.weights == "random" else ["random", "pretrained"]
        kept = subject.__dict__["_fresh"] = in_fresh_process(given, weights, subject.samples)
    return kept


def check_offline(subject: Subject) -> None:
    """Loading asks for no network: build the network from code, and read weights from the `path` that is given."""
    if subject.is_loaded:
        raise NotRun("a loaded backbone was given, not a name: it has no loader")
    found = _fresh(subject)
    require(
        not found["asked"] and "error" not in found,
        f"in a fresh process without a network, {subject.name} asked for {found['asked']}: {found.get('error', '')}",
        expected="that weights='random', and weights='pretrained' where the file is here, load without a network",
        fix="pass pretrained=False or its like to the model's library; sktransfer fetches the weights before the "
        "loader runs",
    )


def check_reload(subject: Subject) -> None:
    """Loaded anew in another process it is the same: draw random weights by torch's default generator alone."""
    found, backbone = _fresh(subject), subject.backbone
    require(
        "error" not in found,
        f"{subject.name} does not load and run in a fresh process: {found.get('error', '')}",
        expected="what it gives in this one",
        fix="see the traceback; a pickled backbone needs its modules importable by name",
    )
    require(
        found["fingerprints"][-1] == backbone.fingerprint(),
        f"loaded in a fresh process, {subject.name} has the fingerprint {found['fingerprints'][-1]}, here "
        f"{backbone.fingerprint()}",
        expected="the same weights for the same name, weights and seed; and a `definition` that is the same each time",
        fix="draw random weights by torch's default generator, which is seeded before the loader runs, and put no "
        "address, time or set into `definition` or a module's repr",
    )
    theirs = [[torch.from_numpy(values) for values in stage] for stage in found["stages"]]
    assert_close(
        theirs,
        run_stages(backbone, subject.tensors),
        subject,
        "in a fresh process",
        "keep what decides the values in parameters and buffers, not in the process (hash(), id(), time, environment)",
    )


@torch.no_grad()
def check_beside_another(subject: Subject) -> None:
    """Two loaded backbones do not disturb one another: build a new network on each call of the loader."""
    if subject.is_loaded:
        raise NotRun("a loaded backbone was given, not a name: it has no loader")
    one = subject.load("random", seed=1)
    before = run_stages(one, subject.tensors)
    other = subject.load("random", seed=2)
    require(
        one.fingerprint() != other.fingerprint(),
        f"{subject.name} has the same fingerprint for two seeds",
        expected="other random weights for another seed",
        fix="draw them by torch's default generator, without seeding it, in a network that is new on each call",
    )
    fix = "share no module, parameter, variable or cache between two calls of the loader"
    run_stages(other, subject.tensors)
    assert_close(run_stages(one, subject.tensors), before, subject, "after another one was loaded and run", fix)
    values, mask = collate(subject.tensors, one.modality, one.preprocess.pad_value)
    in_turns = zip(one.run(values.clone(), mask), other.run(values.clone(), mask))
    found = [rows_of(given, subject.tensors, mask) for given, _ in in_turns]
    assert_close(found, before, subject, "run in turns with another one, stage by stage", fix)


def check_pickle(subject: Subject) -> None:
    """A backbone survives pickle, whole and with stages of its own: keep lambdas, locks and open files out of it."""
    backbone = subject.backbone
    for what, thing in (("it", backbone), ("its stages", backbone.stages), ("its preprocess", backbone.preprocess)):
        try:
            again = pickle.loads(pickle.dumps(thing))
        except Exception as error:
            raise AssertionError(
                f"{subject.name}: {what} cannot be pickled ({type(error).__name__}: {error}); expected: a copy, for "
                "estimators are saved and sent to workers. To fix: write functions and classes at the top of a module"
            ) from error
        if isinstance(again, Backbone):
            require(
                (again.fingerprint(), again.preprocess.key) == (backbone.fingerprint(), backbone.preprocess.key),
                f"{subject.name} comes out of pickle with fingerprint {again.fingerprint()} and preprocessing "
                f"{again.preprocess.key}",
                expected=f"{backbone.fingerprint()} and {backbone.preprocess.key}",
                fix="keep weights in parameters and buffers, settings of the preprocessing in attributes",
            )
