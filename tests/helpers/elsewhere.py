"""Code in a new process, for tests of what must not depend on the process."""

from __future__ import annotations

import sys
import types


def run_code(code, *arguments, check=True, **options):
    """Run code as `python -c` does, in a process of `sktransfer.testing.processes.call`. Return its output as text."""
    from sktransfer.testing.processes import call  # the new process must not begin with sktransfer

    done = call("tests.helpers.elsewhere:run_here", [code, *map(str, arguments)], **options)
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0 or not check, done.stderr
    return done


def run_here(code, *arguments):
    """Run code as the program of this process."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), main.__dict__)
