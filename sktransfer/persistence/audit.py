"""What is checked of a tree before anything is made of it: its size, its arrays, and the kinds of its parts."""

from __future__ import annotations

import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Set
from typing import Any

import numpy as np

from sktransfer.exceptions import LoadError
from sktransfer.persistence.parts import PART

__all__ = ["check_tree", "nodes"]

# They set the state of generators without looking at it; ours, which looks, takes their place.
_REFUSED = ("RandomStateNode", "RandomGeneratorNode")


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield all nodes of a tree as it is written down, the outer before the inner."""
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "__loader__" in one or "__id__" in one:
                yield one
            waiting.extend(reversed(list(one.values())))
        elif isinstance(one, list):
            waiting.extend(reversed(one))


def check_tree(tree: bytes, kinds: Set[str]) -> None:
    """Raise where a tree is larger than it says, or holds parts that are not known.

    Parameters
    ----------
    tree : bytes
        A zip as `write_tree` makes it.
    kinds : set of str
        Parts that can be rebuilt.

    Raises
    ------
    LoadError
        If it is not as `write_tree` makes it.
    """
    with zipfile.ZipFile(io.BytesIO(tree)) as archive:
        infos = archive.infolist()
        packed = [info.filename for info in infos if info.compress_type or info.file_size != info.compress_size]
        if packed or sum(info.file_size for info in infos) > len(tree) or len({i.filename for i in infos}) < len(infos):
            raise LoadError("its tree of objects holds members that are packed, overlap, or stand there twice")
        schema = json.loads(archive.read("schema.json"))
        for info in infos:
            if info.filename.endswith(".npy"):
                _check_array(info.filename, archive.read(info))
    if not isinstance(schema, dict):
        raise LoadError(f"its tree of objects is a {type(schema).__name__}")
    found = list(nodes(schema))
    if any(type(node.get("__id__", 1)) is not int or node.get("__id__", 1) < 1 for node in found):
        raise LoadError("its tree of objects numbers them by what is no number")
    strange = sorted({_kind(node) for node in found if _is_part(node)} - kinds)
    if strange:
        raise LoadError(
            f"it holds parts of the kinds {strange}, which this sktransfer does not know: nothing was loaded. A newer "
            "one may: pip install --upgrade sktransfer"
        )
    refused = sorted({node["__loader__"] for node in found if node.get("__loader__") in _REFUSED})
    if refused:
        raise LoadError(f"it holds {refused}, which sktransfer.save does not write: nothing was loaded")
    _check_files(found)
    _check_growth(schema, len(found))


def _is_part(node: dict[str, Any]) -> bool:
    return f"{node.get('__module__')}.{node.get('__class__')}" == PART


def _kind(node: dict[str, Any]) -> str:
    if node.get("__loader__") != "ConstructorFromReduceNode":
        return f"{node.get('__loader__')} of a part"
    first, _ = node["content"]["content"]
    return str(json.loads(first["content"]))


def _check_array(name: str, content: bytes) -> None:
    """Raise where an array claims another size than it has: memory is taken before its values are read."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise LoadError(f"its array {name} has a header of version {version}, which sktransfer.save does not write")
    shape, _, dtype = read[version](file)
    count = 1
    for length in shape:
        count *= length
    size = len(content) - file.tell()
    if dtype.hasobject or any(length < 0 for length in shape) or count * dtype.itemsize != size:
        raise LoadError(f"its array {name} claims the shape {shape} of {dtype}, and has {size} bytes")
    if dtype.itemsize == 0 and count > 2**20:
        raise LoadError(f"its array {name} claims {count} values of no bytes")


def _check_files(found: list[dict[str, Any]]) -> None:
    """Raise where several objects share a member: each would take memory of its own."""
    owners: dict[str, set[Any]] = defaultdict(set)
    for node in found:
        if "file" in node:
            owners[str(node["file"])].add(node.get("__id__"))
    for name, ids in owners.items():
        if len(ids) > 1 or not all(isinstance(one, int) and one > 0 for one in ids):
            raise LoadError(f"several objects of its tree claim the member {name}")


def _check_growth(schema: dict[str, Any], n_nodes: int) -> None:
    """Raise where going through all that nodes refer to would take longer than going through the nodes themselves.

    A node may stand for one that has the same number. What `write_tree` writes is written out in full; a forged tree
    could double at each of many levels, or bite its own tail.
    """
    spelt: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for node in nodes(schema):
        spelt[_number(node)].append(node)
    sizes: dict[Any, int] = {}
    under_way: set[Any] = set()

    def size(node: dict[str, Any]) -> int:
        number = _number(node)
        if number in under_way:
            raise LoadError("its tree of objects holds an object within itself")
        if number not in sizes:
            under_way.add(number)
            sizes[number] = max(1 + sum(map(size, _children(one))) for one in spelt[number])
            under_way.remove(number)
        return sizes[number]

    if size(schema) > 4 * n_nodes + 1000:
        raise LoadError("its tree of objects refers to itself so often that reading it would not end")


def _number(node: dict[str, Any]) -> Any:
    return node.get("__id__", (id(node),))


def _children(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes that stand right below one."""
    waiting = list(node.values())
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "__loader__" in one or "__id__" in one:
                yield one
            else:
                waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
