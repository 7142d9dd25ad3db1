"""The command line: `sktransfer backbones | plugins | check NAME | cache FOLDER`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sktransfer._version import __version__
from sktransfer.backbones.plugins import Plugin
from sktransfer.backbones.registry import COLUMNS, Registry, backbone_rows, registry
from sktransfer.backbones.spec import MODALITIES
from sktransfer.config import parse_size
from sktransfer.exceptions import InvalidParameterError, SktransferError, StoreError

if TYPE_CHECKING:
    from sktransfer.cache.disk_columns import KeptColumn
    from sktransfer.testing import CheckResult

__all__ = ["main"]

ROOM = 2**30  # bytes by which a full store may grow for a while: to delete is to write
SLOW = 0.2  # seconds that importing a plugin may take before the table says so: each listing pays for it


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, default=None
        The arguments; None for those of the process.

    Returns
    -------
    status : int
        0; 1 where checks failed; 2 after an error, which is told on stderr.
    """
    arguments = _parser().parse_args(argv)
    try:
        _tolerate(sys.stdout, sys.stderr)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except SktransferError as error:
        print(f"sktransfer: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read us has seen enough; Python must not complain of it at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell shows of a program that such a pipe ends
    except KeyboardInterrupt:
        return 130
    return status


def _tolerate(*streams: Any) -> None:
    """Show characters that a terminal does not have as escapes: the names in an error are anyone's."""
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sktransfer", description="Which backbones there are, and whether they work.")
    parser.add_argument("--version", action="version", version=f"sktransfer {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        made.add_argument("--json", action="store_true", help="print JSON, for programs")
        return made

    backbones = command("backbones", _backbones, "List backbones; none is loaded.")
    backbones.add_argument("pattern", nargs="?", metavar="PATTERN", help="which names, as in 'torchvision/resnet*'")
    backbones.add_argument("--modality", choices=MODALITIES, help="what the samples are")
    command("plugins", _plugins, "List plugins, and why those failed that did.")
    check = command("check", _check, "Run the checks that every backbone has to pass.")
    check.add_argument("name", metavar="NAME", help="a backbone, as in 'torchvision/resnet18'")
    check.add_argument("--device", help="compared with the CPU, as in 'cuda'; else the first CUDA device, if any")
    cache = command("cache", _cache, "Show what is kept in a folder that estimators were given as `cache`.")
    cache.add_argument("folder", metavar="FOLDER", help="the folder")
    acts = cache.add_mutually_exclusive_group()
    acts.add_argument("--clear", action="store_true", help="forget everything")
    acts.add_argument(
        "--prune",
        metavar="SIZE",
        help="forget what was not used for longest, until the rest takes SIZE, as in '2 GB'",
    )
    acts.add_argument("--older-than", metavar="DAYS", type=float, help="forget what was not used in so many days")
    return parser


def _known() -> Registry:
    with redirect_stdout(sys.stderr):  # what plugins print must not get between our lines
        return registry()


def _backbones(arguments: argparse.Namespace) -> int:
    known = _known()
    rows = backbone_rows(arguments.modality, arguments.pattern)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    _table(COLUMNS, [{**row, "input_size": _by(row["input_size"])} for row in rows])
    if not rows and arguments.pattern is not None:
        hint = f"; patterns are of whole names: try '*{arguments.pattern.strip('*')}*'"
        print(f"sktransfer: no backbone matches {arguments.pattern!r}{hint}", file=sys.stderr)
    families = [f"{plugin.name}/..." for plugin in known.plugins if plugin.open_family]
    if families:
        print(f"sktransfer: found by name, and not listed: {', '.join(families)}", file=sys.stderr)
    if known.failures:
        print(f"sktransfer: plugins that failed: {len(known.failures)}; see `sktransfer plugins`", file=sys.stderr)
    return 0


def _by(size: Iterable[int] | None) -> str:
    return "any" if size is None else "x".join(map(str, size))


def _plugins(arguments: argparse.Namespace) -> int:
    plugins = _known().plugins
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
    _table(list(rows[0]), rows)
    return 0


def _note(plugin: Plugin) -> str:
    slow = f"slow: more than {SLOW} s, for everyone who lists backbones" if plugin.seconds > SLOW else ""
    return "; ".join(part for part in (plugin.error, slow) if part)


def _check(arguments: argparse.Namespace) -> int:
    name = arguments.name
    _known().find(name)  # a name that does not exist is told before anything heavy is imported
    results: list[CheckResult] = []
    with redirect_stdout(sys.stderr):
        from sktransfer.testing.backbone_checks import yield_results
        from sktransfer.testing.backbone_subject import Subject
    outcomes = yield_results(Subject(name, device=arguments.device), {})
    while True:
        with redirect_stdout(sys.stderr):
            result = next(outcomes, None)
        if result is None:
            break
        results.append(result)
        if not arguments.json:
            print(f"{result.name:28}  {result.status:8}  {' '.join(result.reason.split())}".rstrip(), flush=True)
    counts = {status: sum(one.status == status for one in results) for status in ("passed", "failed", "not run")}
    if arguments.json:
        print(json.dumps({"name": name, **counts, "results": [asdict(one) for one in results]}, indent=2))
    else:
        print(f"{name}: " + ", ".join(f"{count} {status}" for status, count in counts.items()))
    return 1 if counts["failed"] else 0


def _cache(arguments: argparse.Namespace) -> int:
    import lmdb

    from sktransfer.cache import disk_columns
    from sktransfer.cache.lmdb_environment import Environment
    from sktransfer.cache.resolve import check_folder

    folder, size, days = check_folder(arguments.folder), arguments.prune, arguments.older_than
    size = None if size is None else parse_size("--prune", size)
    if days is not None and not days >= 0:
        raise InvalidParameterError(f"--older-than={days} must be a number of days of at least 0")
    for other in disk_columns.other_versions(folder):
        print(f"sktransfer: left alone, of another version: {folder / other}", file=sys.stderr)
    if (size_now := disk_columns.size_on_disk(folder)) is None:
        raise StoreError(f"{folder} keeps nothing: no estimator has had it as its cache")
    environment = Environment(folder, size_now + ROOM)
    gone: list[KeptColumn] = []
    try:
        if arguments.clear:
            disk_columns.clear(environment)
        elif size is not None or days is not None:
            gone = disk_columns.prune(environment, size=size, days=days)
        kept = [] if arguments.clear else disk_columns.list_columns(environment)
    except (lmdb.Error, OSError) as error:
        raise StoreError(f"the store in {folder} cannot be read or changed ({error}); --clear begins anew") from error
    on_disk = disk_columns.size_on_disk(folder) or 0
    if arguments.json:
        told = {"folder": str(folder), "on_disk": on_disk}
        told |= {"columns": list(map(_column_row, kept)), "forgotten": list(map(_column_row, gone))}
        print(json.dumps(told, indent=2))
    else:
        _show_columns(kept, gone, on_disk)
    return 0


def _show_columns(kept: Sequence[KeptColumn], gone: Sequence[KeptColumn], on_disk: int) -> None:
    from sktransfer.cache.types import readable_size

    for one in gone:
        print(f"forgotten: {one.column.backbone} {one.column.stage}, {readable_size(one.n_bytes)}", file=sys.stderr)
    rows = [_column_row(one) for one in kept]
    names = ["backbone", "stage", "pooling", "dtype", "values", "bytes", "last used"]
    _table(names, [{**row, "bytes": readable_size(row["bytes"])} for row in rows])
    n_bytes = readable_size(sum(one.n_bytes for one in kept))
    print(f"sktransfer: {n_bytes} in {len(kept)} columns; {readable_size(on_disk)} on the disk", file=sys.stderr)


def _column_row(one: KeptColumn) -> dict[str, Any]:
    column, used = one.column, time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used)) if one.used else "unknown"
    row = {"backbone": column.backbone, "stage": column.stage, "pooling": column.pooling, "dtype": column.dtype}
    return row | {"values": one.n_entries, "bytes": one.n_bytes, "last used": used}


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print aligned columns; the last one is as wide as it is."""
    cells = [list(columns), *([str(row[column]) for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
