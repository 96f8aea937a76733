"""
Keep of every text by what alike texts are found (training.shingles), beside the batch that the text is in.

``signatures/KEY/signatures.parquet``: for each row of one batch where it is, h0 and h1, a key for each band, ``k0``
and so on, and a sketch, ``s0`` and ``s1``. Made once, also for a batch that was read before anybody asked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.keys import key_of
from training.layout import Batch, parquet_files, quoted
from training.shingles import BAND_SLOTS, BANDS, SEED, SKETCH_BITS, shingles, signatures, stretches
from training.store import Store

if TYPE_CHECKING:
    import duckdb
    import pyarrow

log = logging.getLogger(__name__)

FORMAT = 2  # of the files, and of how they come of a text
SIGNATURES = "signatures"
FILE = "signatures.parquet"
KEYS = [f"k{band}" for band in range(BANDS)]
SKETCH = [f"s{word}" for word in range(SKETCH_BITS // 64)]
CHUNK_ROWS = 1024  # measured: a processor's cache holds what is computed of them
GROUP_CHUNKS = 128  # of a row group
_FROM_ROWS = ["batch", "object", "row", "h0", "h1"]


def method() -> dict[str, Any]:
    """:return: what signatures depend on beside the texts."""
    from rensa import RMinHash

    version = RMinHash.ALGORITHM_VERSION
    return {"format": FORMAT, "bands": [BANDS, BAND_SLOTS, SEED], "sketch": SKETCH_BITS, "rensa": version}


def signatures_key(batch: str) -> str:
    """:param batch: key of one."""
    return key_of({"batch": batch, "method": method()})


def sign(
    db: duckdb.DuckDBPyConnection,
    store: Store,
    batches: Sequence[Batch],
    places: Mapping[str, Path],
    scratch: Path,
    *,
    force: bool,
) -> str | None:
    """
    Make the signatures that the store has not, each in a directory below ``scratch`` that has its key's name.

    :param places: directories of batches that are not in the store yet, by key.
    :param force: make those anew that it has.
    :return: relation with the signatures of all batches; None: there is no row.
    """
    files = []
    for batch in batches:
        rows = parquet_files(store, [batch], places)
        if rows is None:
            continue
        key = signatures_key(batch["key"])
        if not force and store.is_complete(f"{SIGNATURES}/{key}"):
            files.append(store.duckdb_path(f"{SIGNATURES}/{key}/{FILE}"))
            continue
        file = scratch / key / FILE
        file.parent.mkdir(parents=True)
        log.info("looking for texts that are alike: %s rows are new to it", f"{batch['rows']:,}")
        _write(file, db.sql(f"SELECT {', '.join(_FROM_ROWS)}, text FROM {rows}").to_arrow_reader(CHUNK_ROWS))
        files.append(str(file))
    return f"read_parquet([{', '.join(map(quoted, files))}])" if files else None


def _write(file: Path, rows: pyarrow.RecordBatchReader) -> None:
    import numpy as np
    import pyarrow
    from pyarrow import parquet

    kinds = [pyarrow.int64(), pyarrow.int32(), pyarrow.int64(), pyarrow.uint64(), pyarrow.uint64()]
    fields = list(zip(_FROM_ROWS, kinds, strict=True))
    fields += [(name, pyarrow.uint32()) for name in KEYS] + [(name, pyarrow.uint64()) for name in SKETCH]
    schema = pyarrow.schema(fields)
    with parquet.ParquetWriter(
        file, schema, compression={name: "zstd" if name == "row" else "none" for name in schema.names},
        use_dictionary=["batch", "object"], store_schema=False,
    ) as writer:  # fmt: skip
        waiting: list[pyarrow.RecordBatch] = []
        for chunk in rows:
            texts = chunk["text"].to_pylist()
            parts = [signatures(*shingles(texts[part])) for part in stretches(list(map(len, texts)))]
            keys, sketches = (np.concatenate(made, axis=1) for made in zip(*parts, strict=True))
            made = [pyarrow.array(column) for column in (*keys, *sketches)]
            waiting.append(pyarrow.record_batch([*(chunk[name] for name in _FROM_ROWS), *made], schema))
            if len(waiting) == GROUP_CHUNKS:
                writer.write_table(pyarrow.Table.from_batches(waiting))
                waiting = []
        if waiting:
            writer.write_table(pyarrow.Table.from_batches(waiting))
