"""`jaxrl plot`."""

from __future__ import annotations

from collections.abc import Sequence

from jaxrl.cli import flags
from jaxrl.cli.options import PlotOptions
from jaxrl.core.errors import InputError
from jaxrl.devices import platform

PICTURES = (".png", ".pdf", ".svg")


def main(args: Sequence[str]) -> int:
    """Draw the pictures of a directory anew, or several into one."""
    options = flags.parse(PlotOptions, args, "jaxrl plot")
    if not options.dirs:
        raise InputError("jaxrl plot needs at least one directory of a run, a sweep or a tuning")
    platform.configure(1)
    from jaxrl.show import pictures

    out = options.out or pictures.place(options.dirs)
    flags.check_writable("--out", out, PICTURES)
    for picture in pictures.redraw(options.dirs, out):
        print(picture)
    return 0
