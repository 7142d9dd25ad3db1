"""The command line: `sktransfer backbones | recommend | plugins | check | tune | cache | export | card`."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sktransfer._utils import local_path
from sktransfer._version import __version__
from sktransfer.backbones.plugins import Plugin
from sktransfer.backbones.registry import COLUMNS, Registry, backbone_rows, registry
from sktransfer.backbones.spec import MODALITIES
from sktransfer.cache.types import readable_size
from sktransfer.config import parse_size
from sktransfer.exceptions import (
    InvalidParameterError,
    LoadError,
    SaveError,
    SktransferError,
    SktransferWarning,
    StoreError,
    StoreWarning,
)

if TYPE_CHECKING:
    from sktransfer.cache.segments import Segment
    from sktransfer.cache.types import NamespaceInfo
    from sktransfer.testing import CheckResult

__all__ = ["main"]

SLOW = 0.2  # seconds to import a plugin above which the table has a note, because each listing imports it


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments. None takes those of the process.

    Returns
    -------
    status : int
        0 for success, 1 for failed checks, 2 for an error, which is printed to stderr.
    """
    arguments = _parser().parse_args(argv)
    try:
        _escape_unencodable(sys.stdout, sys.stderr)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except SktransferError as error:
        print(f"sktransfer: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python does not fail to flush at exit
        return 141  # status that a shell reports for a program killed by SIGPIPE
    except KeyboardInterrupt:
        return 130
    return status


def _escape_unencodable(*streams: Any) -> None:
    """Print characters that a terminal cannot encode as escapes."""
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sktransfer", description="List and check backbones, manage caches, and export estimators."
    )
    parser.add_argument("--version", action="version", version=f"sktransfer {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=text, description=text)
        subparser.set_defaults(run=run)
        subparser.add_argument("--json", action="store_true", help="print JSON")
        return subparser

    backbones = command("backbones", _backbones, "List backbones without loading them.")
    backbones.add_argument("pattern", nargs="?", metavar="PATTERN", help="pattern, as in 'torchvision/resnet*'")
    backbones.add_argument("--modality", choices=MODALITIES, help="kind of samples")
    recommend = command("recommend", _recommend, "Recommend backbones to start with, best first.")
    recommend.add_argument("--modality", choices=MODALITIES, help="kind of samples")
    recommend.add_argument("--budget", default="laptop", help="'laptop' (default) or 'gpu'")
    command("plugins", _plugins, "List plugins and the errors of those that failed.")
    check = command("check", _check, "Run the checks that every backbone must pass.")
    check.add_argument("name", metavar="NAME", help="name of a backbone, as in 'torchvision/resnet18'")
    check.add_argument("--device", help="device to compare with the CPU (default: the first CUDA device)")
    tune = command("tune", _tune, "Measure how a backbone runs fastest on this processor, and use it from then on.")
    tune.add_argument("name", nargs="?", metavar="NAME", help="name of a backbone, as in 'torchvision/resnet18'")
    tune.add_argument("--seconds", type=float, default=20.0, help="time for the measurement (default: 20)")
    tune_actions = tune.add_mutually_exclusive_group()
    tune_actions.add_argument("--list", action="store_true", help="list what is tuned, and whether it is used")
    tune_actions.add_argument("--forget", action="store_true", help="forget what is tuned of NAME, or all")
    cache = command("cache", _cache, "List, merge or delete the cache entries of a folder or URL that estimators use.")
    cache.add_argument("store", metavar="FOLDER_OR_URL", help="the folder, or a URL as in 's3://bucket/run'")
    actions = cache.add_mutually_exclusive_group()
    actions.add_argument("--clear", action="store_true", help="delete all entries")
    actions.add_argument(
        "--prune",
        metavar="SIZE_OR_DAYS",
        help="in a folder, delete the least recently used entries until the rest takes at most SIZE, as in '2 GB' "
        "with a unit. Below a URL, delete entries written more than DAYS days ago",
    )
    actions.add_argument(
        "--older-than",
        metavar="DAYS",
        type=float,
        help="delete entries not used, or below a URL not written, for DAYS days",
    )
    actions.add_argument(
        "--merge", metavar="SOURCE", nargs="+", help="copy the entries of other folders or URLs into this one"
    )
    export = command("export", _export, "Write a saved estimator as an ONNX file, and its preprocessing.")
    export.add_argument("file", metavar="FILE", help="file of sktransfer.save")
    export.add_argument("model", metavar="MODEL", help="file to write, as in model.onnx")
    export.add_argument("--output", default="auto", help="probabilities, logits, predictions or features")
    card = command("card", _card, "Describe a saved estimator as a model card in Markdown.")
    card.add_argument("file", metavar="FILE", help="file of sktransfer.save")
    card.add_argument("card", nargs="?", metavar="CARD", help="file to write, as in README.md (default: print it)")
    card.add_argument(
        "--trusted", metavar="TYPE", action="append", default=[], help="type that `load` may build; may be repeated"
    )
    return parser


def _load_registry() -> Registry:
    with redirect_stdout(sys.stderr):  # output of plugins is not part of the table
        loaded = registry()
        loaded.import_plugins()
        return loaded


def _backbones(arguments: argparse.Namespace) -> int:
    loaded = _load_registry()
    rows = backbone_rows(arguments.modality, arguments.pattern)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    _print_table(COLUMNS, [_shown(row) for row in rows])
    if not rows and arguments.pattern is not None:
        hint = f"a pattern matches whole names, try '*{arguments.pattern.strip('*')}*'"
        print(f"sktransfer: no backbone matches {arguments.pattern!r}; {hint}", file=sys.stderr)
    families = [f"{plugin.name}/..." for plugin in loaded.plugins if plugin.open_family]
    if families:
        print(f"sktransfer: others are found by name and not listed: {', '.join(families)}", file=sys.stderr)
    if loaded.failures:
        print(f"sktransfer: plugins that failed: {len(loaded.failures)}; see `sktransfer plugins`", file=sys.stderr)
    return 0


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of `backbone_rows` as the table shows it, with a dash for an unknown fact."""
    known = {column: "-" if value is None else value for column, value in row.items()}
    return {**known, "input_size": _format_size(row["input_size"])}


def _format_size(size: Iterable[int] | None) -> str:
    return "any" if size is None else "x".join(map(str, size))


def _recommend(arguments: argparse.Namespace) -> int:
    _load_registry()
    from sktransfer.selection.recommending import recommend_backbones

    table = recommend_backbones(modality=arguments.modality, budget=arguments.budget)
    table = table.drop(columns=["score", "layer", "samples_per_second"])  # they are measured on samples
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(list(table), [_shown(row) for row in rows])
    return 0


def _plugins(arguments: argparse.Namespace) -> int:
    plugins = _load_registry().plugins
    if arguments.json:
        print(json.dumps([asdict(plugin) for plugin in plugins], indent=2))
        return 0
    rows = [
        {
            "name": plugin.name,
            "status": plugin.status,
            "backbones": f"{plugin.n_backbones}{' and more by name' if plugin.open_family else ''}",
            "seconds": f"{plugin.seconds:.3f}",
            "from": plugin.source,
            "module": plugin.module,
            "note": _note(plugin),
        }
        for plugin in plugins
    ]
    _print_table(list(rows[0]), rows)
    return 0


def _note(plugin: Plugin) -> str:
    slow = f"slow: more than {SLOW} s for each listing of backbones" if plugin.seconds > SLOW else ""
    return "; ".join(part for part in (plugin.error, slow) if part)


def _check(arguments: argparse.Namespace) -> int:
    name = arguments.name
    _load_registry().find(name)  # raises for an unknown name before torch is imported
    results: list[CheckResult] = []
    with redirect_stdout(sys.stderr):
        from sktransfer.testing.backbone_checks import yield_results
        from sktransfer.testing.backbone_subject import Subject
    pending = yield_results(Subject(name, device=arguments.device), {})
    while True:
        with redirect_stdout(sys.stderr):
            result = next(pending, None)
        if result is None:
            break
        results.append(result)
        if not arguments.json:
            print(f"{result.name:28}  {result.status:8}  {' '.join(result.reason.split())}".rstrip(), flush=True)
    counts = {status: sum(result.status == status for result in results) for status in ("passed", "failed", "not run")}
    if arguments.json:
        print(json.dumps({"name": name, **counts, "results": [asdict(result) for result in results]}, indent=2))
    else:
        print(f"{name}: " + ", ".join(f"{count} {status}" for status, count in counts.items()))
    return 1 if counts["failed"] else 0


def _tune(arguments: argparse.Namespace) -> int:
    with redirect_stdout(sys.stderr):
        from sktransfer.machine.tuned import forget
        from sktransfer.tuning import describe_records, tune

    if arguments.list:
        with redirect_stdout(sys.stderr):
            rows = describe_records()
        if arguments.json:
            print(json.dumps(rows, indent=2))
        else:
            _print_table(["backbone", "measured", "fastest", "gain", "used"], rows)
        return 0
    if arguments.forget:
        deleted = [str(path) for path in forget(arguments.name)]
        print(json.dumps({"forgotten": deleted}, indent=2) if arguments.json else f"forgotten: {len(deleted)}")
        return 0
    if arguments.name is None:
        raise InvalidParameterError("name a backbone, as in `sktransfer tune torchvision/resnet18`")
    _load_registry().find(arguments.name)
    with redirect_stdout(sys.stderr), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SktransferWarning)
        record = tune(arguments.name, seconds=arguments.seconds)
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"sktransfer: warning: {' '.join(message.split())}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(asdict(record), indent=2))
        return 0
    rows = [{"precision": name, **asdict(choice)} for name, choice in record.choices.items()]
    _print_table(["precision", "budget", "workers", "per_second", "gain"], rows)
    return 0


def _cache(arguments: argparse.Namespace) -> int:
    from sktransfer.cache.urls import is_url

    if arguments.older_than is not None and not arguments.older_than >= 0:
        raise InvalidParameterError(f"--older-than={arguments.older_than} must be a number of days of at least 0")
    failed = _merge(arguments.store, arguments.merge) if arguments.merge else False
    (_cache_below_url if is_url(arguments.store) else _cache_in_folder)(arguments)
    return int(failed)


def _merge(target: str, sources: Sequence[str]) -> bool:
    """Merge stores and return whether a part was left out."""
    with redirect_stdout(sys.stderr):
        from sktransfer.cache.merge import merge

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", StoreWarning)
            counts = merge(target, sources)
    for source, count in counts.items():
        print(f"merged: {count} values of {source}", file=sys.stderr)
    for warning in caught:
        print(f"sktransfer: warning: {' '.join(str(warning.message).split())}", file=sys.stderr)
    return any(issubclass(warning.category, StoreWarning) for warning in caught)


def _cache_in_folder(arguments: argparse.Namespace) -> None:
    import lmdb

    from sktransfer.cache.lmdb import clear, list_namespaces, namespace_sizes, other_layouts, prune
    from sktransfer.cache.resolve import check_folder

    if arguments.store == "memory":
        raise InvalidParameterError("'memory' is a cache within one process. Give a folder or a URL")
    folder, size, days = check_folder(arguments.store), arguments.prune, arguments.older_than
    size = None if size is None else _size(size)
    for other in other_layouts(folder):
        print(f"sktransfer: left alone, of another version: {folder / other}", file=sys.stderr)
    if not namespace_sizes(folder):
        is_cleared = arguments.clear and folder.is_dir()
        hint = None if is_cleared else "No estimator has used it as its cache since it was cleared"
        from sktransfer.cache.segments import LAYOUT

        if (folder / LAYOUT).is_dir():
            hint = f"It holds those of a URL, so give {folder.as_uri()}"
        if hint is not None:
            raise StoreError(f"{folder} holds no cache entries. {hint}")
    deleted: list[NamespaceInfo] = []
    try:
        if arguments.clear:
            clear(folder)
        elif size is not None or days is not None:
            deleted = prune(folder, size=size, days=days)
        kept = list_namespaces(folder)
    except (lmdb.Error, OSError) as error:
        raise StoreError(
            f"the store in {folder} cannot be read or changed ({error}). --clear deletes all entries"
        ) from error
    on_disk = sum(namespace_sizes(folder).values())
    if arguments.json:
        columns, forgotten = map(_namespace_row, kept), map(_namespace_row, deleted)
        result = {"folder": str(folder), "on_disk": on_disk, "columns": list(columns), "forgotten": list(forgotten)}
        print(json.dumps(result, indent=2))
        return
    for info in deleted:
        text = f"{info.namespace.backbone} {info.namespace.stage}, {readable_size(info.n_bytes)}"
        print(f"forgotten: {text}", file=sys.stderr)
    _print_namespaces(kept, "last used", f"{readable_size(on_disk)} on the disk")


def _cache_below_url(arguments: argparse.Namespace) -> None:
    from sktransfer.cache.resolve import resolve_shared

    days = arguments.older_than if arguments.prune is None else _days(arguments.prune)
    store = resolve_shared(arguments.store)
    if not (arguments.clear or store.segments()):
        raise StoreError(
            f"{store.location.url} holds no cache entries. No estimator has written any, or all are deleted"
        )
    deleted: list[Segment] = []
    if arguments.clear:
        store.clear()
    elif days is not None:
        deleted = store.prune(days)
    kept, n_segments = store.namespaces(), len(store.segments())
    if arguments.json:
        forgotten = [{"segment": one.path, "values": one.n_entries, "bytes": one.n_bytes} for one in deleted]
        columns = [_namespace_row(info, "last written") for info in kept]
        result = {"url": store.location.url, "segments": n_segments, "columns": columns, "forgotten": forgotten}
        print(json.dumps(result, indent=2))
        return
    if deleted:
        text = f"{len(deleted)} segments, {readable_size(sum(one.n_bytes for one in deleted))}"
        print(f"forgotten: {text}", file=sys.stderr)
    _print_namespaces(kept, "last written", f"{n_segments} segments")


def _size(given: str) -> int:
    size = parse_size("--prune", given)
    if given.strip()[-1].isdigit():  # days below a URL, and as bytes it would delete nearly all
        raise InvalidParameterError(
            f"--prune={given!r} must have a unit in a folder, as in '2 GB' or '{given.strip()} bytes'. To delete "
            f"entries that were not used for some days give --older-than {given.strip()}"
        )
    return size


def _days(given: str) -> float:
    number = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:d|days?)?\s*", given)
    if number is None:
        raise InvalidParameterError(
            f"--prune={given!r} must be a number of days below a URL, as in '30': the last use is not known there"
        )
    return float(number[1])


def _export(arguments: argparse.Namespace) -> int:
    with redirect_stdout(sys.stderr):  # output of torch's exporter
        from sklearn.exceptions import NotFittedError

        from sktransfer.explain.onnx import export_onnx
        from sktransfer.persistence.api import load

        try:
            export = export_onnx(load(arguments.file), arguments.model, output=arguments.output)
        except (ImportError, NotFittedError) as error:
            raise SaveError(str(error)) from error
    if arguments.json:
        files = list(map(str, export.files))
        result = {"files": files, "output": export.output, "opset": export.opset, "difference": export.difference}
        print(json.dumps(result, indent=2))
    else:
        print(export)
    return 0


def _print_namespaces(kept: Sequence[NamespaceInfo], time_column: str, where: str) -> None:
    rows = [
        {**row, "bytes": readable_size(row["bytes"]), time_column: row["last used"]}
        for row in map(_namespace_row, kept)
    ]
    _print_table(["backbone", "stage", "pooling", "dtype", "values", "bytes", time_column], rows)
    n_bytes = readable_size(sum(info.n_bytes for info in kept))
    print(f"sktransfer: {n_bytes} in {len(kept)} columns; {where}", file=sys.stderr)


def _namespace_row(info: NamespaceInfo, time_column: str = "last used") -> dict[str, Any]:
    namespace = info.namespace
    return {
        "backbone": namespace.backbone,
        "stage": namespace.stage,
        "pooling": namespace.pooling,
        "dtype": namespace.dtype,
        "values": info.n_entries,
        "bytes": info.n_bytes,
        time_column: time.strftime("%Y-%m-%d %H:%M", time.localtime(info.used)) if info.used else "unknown",
    }


def _card(arguments: argparse.Namespace) -> int:
    target = None if arguments.card is None else local_path(arguments.card)
    if target is not None and target.exists():
        raise SaveError(f"{target} exists, and is not replaced; name another file, or delete it")
    with redirect_stdout(sys.stderr):
        from sklearn.exceptions import NotFittedError

        from sktransfer.persistence.api import load
        from sktransfer.persistence.model_card import model_card

        try:
            estimator = load(arguments.file, trusted=arguments.trusted)
            card = model_card(estimator, file=local_path(arguments.file).name, trusted=arguments.trusted)
        except LoadError as error:
            hint = ". Here this is --trusted TYPE" if "load(path, trusted=" in str(error) else ""
            raise LoadError(f"{error}{hint}") from error
        except NotFittedError as error:
            raise SaveError(str(error)) from error
    text = f"{card.render().strip()}\n"
    if target is not None:
        try:
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SaveError(f"{target} cannot be written: {error}") from error
    if arguments.json:
        print(json.dumps({"file": None if target is None else str(target), "card": text}, indent=2))
    else:
        print(text.rstrip() if target is None else f"{target}: {target.stat().st_size:,} bytes")
    return 0


def _print_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows in aligned columns."""
    cells = [list(columns), *([str(row[column]) for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
