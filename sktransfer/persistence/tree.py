"""Any object as a tree of skops, our objects in it as parts: the copy that is written, and the way back."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sktransfer.exceptions import LoadError, SaveError, SktransferError
from sktransfer.persistence.audit import check_tree, nodes
from sktransfer.persistence.parts import PART, Codec, Loading, Part, Saving
from sktransfer.persistence.trusted import further_types

__all__ = ["read_tree", "untrusted", "write_tree"]

_SCHEMA = "schema.json"
_LOST_KEYS = ("builtins.bool", "builtins.NoneType", "numpy.bool", "numpy.bool_")


class _Copier(pickle.Pickler):
    """Takes an object apart so that a copy can be made in which parts stand for what has a codec.

    Nothing of this is ever written: what is unpickled is what was pickled a moment before, in this process.
    """

    def __init__(self, file: io.BytesIO, saving: Saving, find: Callable[[Any], Codec | None], **options: Any) -> None:
        super().__init__(file, protocol=5, **options)
        self.saving, self.find = saving, find

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object of ours is made; all others go their usual way."""
        codec = self.find(obj)
        if codec is None:
            return NotImplemented
        self.saving.kinds.add(codec.kind)
        return Part, (codec.kind, codec.encode(obj, self.saving))


def write_tree(obj: Any, saving: Saving, find: Callable[[Any], Codec | None]) -> bytes:
    """Return an object as skops writes it, with parts for what has a codec.

    Parameters
    ----------
    obj : object
        Not changed.
    saving : Saving
        Gets the tensors.
    find : callable
        From an object to its codec, or None.

    Raises
    ------
    SaveError
        If something in it cannot be written without pickle.
    """
    import skops.io

    copied, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    try:
        _Copier(copied, saving, find, buffer_callback=buffers.append).dump(obj)
        twin = pickle.loads(copied.getvalue(), buffers=buffers)
        dump = skops.io.dumps(twin)
    except SktransferError:
        raise
    except (pickle.PicklingError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise SaveError(
            f"{type(obj).__name__} holds what cannot be saved without pickle ({type(error).__name__}: {error}). "
            "Functions must have a name in a module (no lambda), and objects plain attributes; joblib.dump keeps them "
            "otherwise"
        ) from error
    return _rewritten(dump)


def _rewritten(dump: bytes) -> bytes:
    """Return a dump without the addresses of objects in it: equal objects give equal files, and small ones."""
    with zipfile.ZipFile(io.BytesIO(dump)) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        _check_keys(schema)
        ids: dict[int, int] = {}
        files: dict[str, str] = {}
        for node in nodes(schema):
            node.pop("is_json", None)
            if "__id__" in node:
                node["__id__"] = ids.setdefault(node["__id__"], len(ids) + 1)
            if "file" in node:
                name = node["file"]
                node["file"] = files.setdefault(name, f"{len(files)}.{name.rpartition('.')[2]}")
        contents = {new: archive.read(old) for old, new in files.items()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        contents = {_SCHEMA: json.dumps(schema, separators=(",", ":")).encode(), **contents}
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return packed.getvalue()


def _check_keys(schema: Any) -> None:
    """Raise where a dict has keys that JSON turns into others: True and False would both come back as True."""
    for node in nodes(schema):
        if node["__loader__"] == "DictNode":
            for key in node["key_types"]["content"]:
                if f"{key['__module__']}.{key['__class__']}" in _LOST_KEYS:
                    raise SaveError(
                        f"a dict with keys of type {key['__class__']} cannot be saved ({sorted(node['content'])[:4]}); "
                        "use int or str as keys (of class_weight, say: 0 and 1 in place of False and True)"
                    )


def untrusted(tree: bytes, trusted: Iterable[str] = ()) -> list[str]:
    """Return the names of types in a tree that neither skops nor we know to be safe.

    Parameters
    ----------
    tree : bytes
        As `write_tree` gives it.
    trusted : iterable of str, default=()
        Names that are known beside these.
    """
    import skops.io

    return sorted(set(skops.io.get_untrusted_types(data=tree)) - {PART, *further_types(), *trusted})


def read_tree(tree: bytes, loading: Loading, trusted: Sequence[str]) -> Any:
    """Return the object that a tree describes; of what it names nothing is imported before all of it is known.

    Parameters
    ----------
    tree : bytes
        As `write_tree` gives it, or as anyone has changed it.
    loading : Loading
        Makes objects of parts.
    trusted : sequence of str
        Names of further types that its user trusts.

    Raises
    ------
    LoadError
        If it holds anything that is not known.
    """
    import skops.io

    try:
        check_tree(tree, set(loading.codecs))
        strange = untrusted(tree, trusted)
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"its tree of objects is damaged ({type(error).__name__}: {error}); save it anew") from error
    if strange:
        raise LoadError(
            f"it holds {strange}, which {'is' if len(strange) == 1 else 'are'} not known to be safe, so nothing was "
            f"loaded. Where you know what that is, and trust who made the file: load(path, trusted={strange})"
        )
    with loading.active():
        try:
            return skops.io.loads(tree, trusted=[PART, *further_types(), *trusted])
        except (LoadError, Warning):
            raise
        except Exception as error:
            text = f"its tree of objects cannot be rebuilt ({type(error).__name__}: {error}); save it anew"
            raise LoadError(text) from error
