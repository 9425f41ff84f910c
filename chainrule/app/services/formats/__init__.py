"""The file formats datasets come in; one file for each, all to the same table."""

from chainrule.app.services.formats.reading import Limits, Options, Table, read

__all__ = ["Limits", "Options", "Table", "read"]
