"""`jaxrl report`."""

from __future__ import annotations

from collections.abc import Sequence

from jaxrl.cli import flags
from jaxrl.cli.options import ReportOptions
from jaxrl.core.errors import InputError
from jaxrl.devices import platform


def main(args: Sequence[str]) -> int:
    """Write one HTML file about finished directories."""
    options = flags.parse(ReportOptions, args, "jaxrl report")
    if not options.dirs:
        raise InputError("jaxrl report needs at least one directory of a run, a sweep or a tuning")
    flags.check_writable("--out", options.out)
    platform.configure()
    from jaxrl.show import report

    report.require()
    report.write(options.dirs, options.out)
    print(options.out)
    return 0
