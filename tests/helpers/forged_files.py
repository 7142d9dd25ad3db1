"""Saved files taken apart, changed, and put together again with hashes that fit: as one who means harm would."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile

from sktransfer.persistence.archive import ESTIMATOR, WEIGHTS

MANIFEST, SCHEMA = "manifest.json", "schema.json"


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def signed(members: dict[str, bytes]) -> dict[str, bytes]:
    """Return members with a manifest that has their hashes."""
    try:
        manifest = json.loads(members[MANIFEST])
        for name in (ESTIMATOR, WEIGHTS):
            manifest["members"][name]["sha256"] = hashlib.sha256(members[name]).hexdigest()
    except (ValueError, TypeError, KeyError):
        return members
    return {**members, MANIFEST: json.dumps(manifest).encode()}


def forge(path, *, schema=None, manifest=None, weights=None, inner=None):
    """Change a saved file in place: the tree's JSON, the manifest, the tensors, or members of the tree."""
    members = members_of(path.read_bytes())
    tree = members_of(members[ESTIMATOR])
    if schema is not None:
        text = json.loads(tree[SCHEMA])
        tree[SCHEMA] = json.dumps(schema(text) or text).encode()
    members[ESTIMATOR] = packed({**tree, **(inner(tree) if inner else {})})
    if weights is not None:
        members[WEIGHTS] = weights(members[WEIGHTS])
    if manifest is not None:
        text = json.loads(members[MANIFEST])
        members[MANIFEST] = json.dumps(manifest(text) or text).encode()
    path.write_bytes(packed(signed(members)))


def parts(schema, kind):
    """Return the nodes of the entries of all parts of a kind: name -> node."""
    found, waiting = [], [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if one.get("__class__") == "Part" and json.loads(one["content"]["content"][0]["content"]) == kind:
                found.append(one["content"]["content"][1]["content"])
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return found


def plain(value):
    """Return the node of a plain value."""
    return {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": json.dumps(value)}
