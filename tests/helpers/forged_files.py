"""Forge saved files: take them apart, change them, and write them again with hashes that fit."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile

from sktransfer.persistence.archive import ESTIMATOR, WEIGHTS

MANIFEST, SCHEMA = "manifest.json", "schema.json"


def unzip(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_members(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def sign(members: dict[str, bytes]) -> dict[str, bytes]:
    """Return members with a manifest that holds their hashes."""
    try:
        manifest = json.loads(members[MANIFEST])
        for name in (ESTIMATOR, WEIGHTS):
            manifest["members"][name]["sha256"] = hashlib.sha256(members[name]).hexdigest()
    except (ValueError, TypeError, KeyError):
        return members
    return {**members, MANIFEST: json.dumps(manifest).encode()}


def forge(path, *, schema=None, manifest=None, weights=None, inner=None):
    """Change a saved file in place: the JSON of its tree, its manifest, its tensors, or members of the tree."""
    members = unzip(path.read_bytes())
    tree = unzip(members[ESTIMATOR])
    if schema is not None:
        text = json.loads(tree[SCHEMA])
        tree[SCHEMA] = json.dumps(schema(text) or text).encode()
    members[ESTIMATOR] = zip_members({**tree, **(inner(tree) if inner else {})})
    if weights is not None:
        members[WEIGHTS] = weights(members[WEIGHTS])
    if manifest is not None:
        text = json.loads(members[MANIFEST])
        members[MANIFEST] = json.dumps(manifest(text) or text).encode()
    path.write_bytes(zip_members(sign(members)))


def node_data(schema, kind):
    """Return the data of all custom nodes of a kind, each a dict of field name to node."""
    data, waiting = [], [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            is_custom = value.get("__class__") == "CustomNode"
            if is_custom and json.loads(value["content"]["content"][0]["content"]) == kind:
                data.append(value["content"]["content"][1]["content"])
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return data


def json_node(value):
    """Return the node of a plain value."""
    return {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": json.dumps(value)}
