"""Where programs run: XLA's flags, members over devices, a trainer compiled for a layout."""
