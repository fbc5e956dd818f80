"""Numbers made visible: curves, tables of values, films, the terminal, the report."""
