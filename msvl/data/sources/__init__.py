"""Data sets that msvl reads: one file each."""

SOURCES: dict[str, str] = {
    "phantom": "msvl.data.sources.phantom",
    "table": "msvl.data.sources.table",
}
"""Name -> module with `add_arguments(parser)`, `from_arguments(arguments) -> Source` and a docstring for the list."""
