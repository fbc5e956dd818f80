"""`jaxrl watch`."""

from __future__ import annotations

from collections.abc import Sequence

from jaxrl.cli import flags
from jaxrl.cli.options import WatchOptions
from jaxrl.core.settings import build


def main(args: Sequence[str]) -> int:
    """Show how far a directory is, out of its files alone."""
    options = build(WatchOptions, vars(flags.parse(WatchOptions, args, "jaxrl watch")), "jaxrl watch")
    from jaxrl.show import watch

    watch.follow(options.dir, options.every, options.once)
    return 0
