"""
Read labelled rows where they are: files of five formats, local or in S3, and data sets of the Hugging Face Hub.

A source is a list of parts, a part yields blocks, and a block gives rows with their place in the part. What a row is
worth is for others to say. A part raises BadInput for what makes all of it unreadable, and ReadFailed for what may
have passed by the next time.
"""

from __future__ import annotations

from training.contract import BadInput, Split
from training.sources.part import BadRow, Batch, Block, Columns, NothingThere, Part, ReadFailed, Row, Source

__all__ = ["BadRow", "Batch", "Block", "Columns", "NothingThere", "Part", "ReadFailed", "Row", "Source", "open_source"]


def open_source(
    uri: str, *, role: Split | None = None, file_format: str | None = None, query: str | None = None
) -> Source:
    """
    Find what ``uri`` names; rows are read only when a part is iterated.

    :param role: the split that the source was given for; None: the main source, whose own splits are respected.
    :param query: what ``sql://CONNECTION`` is asked.
    :raises BadInput: nothing is there, or nothing that can be read.
    :raises ReadFailed: the source cannot be listed now.
    """
    scheme = uri.partition("://")[0] if "://" in uri else "file"
    if scheme == "hf":
        from training.sources.hub import open_hub

        return open_hub(uri, role)
    if scheme in ("file", "s3"):
        from training.sources.files import open_files

        return open_files(uri, file_format)
    if scheme == "sql":
        from training.sources.sql import open_sql

        return open_sql(uri, query, role)
    raise BadInput(f"{uri}: unknown kind of source {scheme}://. Use a path, file://, s3://, hf:// or a query.")
