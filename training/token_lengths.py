"""
Count the tokens of a sample of the new texts: how long they are, and how many of them training would cut.

A tokenizer's own file is enough for it, so that neither torch nor transformers is imported (measured: 2.8 s of
processor time) where a checkpoint has one.
"""

from __future__ import annotations

import json
import logging
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.checks import policy_of
from training.contract import IngestRequest
from training.examples import smallest_limit
from training.findings import Finding
from training.model import find_tokenizer

if TYPE_CHECKING:
    import duckdb
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

CHECK = "long_text"
SAMPLE_ROWS = 20_000  # a share of one per cent is then known to a fifth of it
SAMPLE_CHARACTERS = 4_000_000  # measured: 3 to 5 s of processor time; of longer texts the sample has fewer
TEXT_CHARACTERS = 50_000  # of a text that are looked at
CHUNK = 500  # texts in memory at once
BOUNDS = sorted({1, *(2**i for i in range(16)), *(3 * 2**i for i in range(14))})  # of the histogram's groups, in tokens


def check_token_lengths(
    request: IngestRequest, db: duckdb.DuckDBPyConnection, rows: str | None
) -> tuple[Mapping[str, Any] | None, list[Finding]]:
    """
    :param rows: relation of ``db`` with the new rows; None: there are none.
    :return: what was counted, JSON; None: nothing was. A finding, when training would cut texts: more of them than
        ``bad_rows_percent``, where the check says to refuse them.
    """
    policy = policy_of(request.checks, CHECK)
    if rows is None or policy == "ignore":
        return None, []
    if request.base_model is None:
        log.info("No base model is named, so nobody looked how many tokens the new texts have.")
        return None, []
    texts, new = _sample(db, rows)
    try:
        directory = find_tokenizer(request.base_model)
        limit = request.max_length or _limit(directory)
        lengths = _count(_tokenizer(directory), texts)
    except Exception as error:  # training needs it as well and will say more; the data is no worse for it
        log.warning("How many tokens the new texts have was not looked at: %s", error)
        return None, []
    counted = {"base_model": request.base_model, "new_rows": new, **_described(lengths, limit)}
    cut, percent = counted["rows_cut"], counted["percent_cut"]
    if not cut:
        return counted, []
    sentence = (
        f"Training would cut {percent:.3g} per cent of the new texts ({cut:,} of a sample of {len(lengths):,}): they "
        f"have more than {limit:,} tokens, as {request.base_model} counts them, the longest {counted['longest']:,}."
    )
    if policy != "report" and percent <= request.checks.bad_rows_percent:
        log.info("%s", sentence)
        return counted, []
    return counted, [Finding(CHECK, cut, sentence)]


def _sample(db: duckdb.DuckDBPyConnection, rows: str) -> tuple[list[str], int]:
    """:return: the texts of lowest hash, whatever their order was, and how many there are to choose from."""
    [new] = db.execute(f"SELECT count(*) FROM {rows}").fetchone() or [0]
    chosen = ""
    if new > SAMPLE_ROWS:  # hashes first: they are a small part of what would have to be sorted
        last = db.execute(f"SELECT h0 FROM {rows} ORDER BY h0 LIMIT 1 OFFSET {SAMPLE_ROWS - 1}").fetchone()
        assert last is not None
        chosen = f"WHERE h0 <= {last[0]}"
    ordered = db.execute(
        f"SELECT left(text, {TEXT_CHARACTERS}) FROM {rows} {chosen} ORDER BY h0, h1, text LIMIT {SAMPLE_ROWS}"
    )
    texts: list[str] = []
    characters = 0
    while characters < SAMPLE_CHARACTERS and (chunk := ordered.fetchmany(CHUNK)):
        for (text,) in chunk:
            characters += len(text)
            if texts and characters > SAMPLE_CHARACTERS:
                break
            texts.append(text)
    return texts, new


def _tokenizer(directory: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    file = directory / "tokenizer.json"
    if file.is_file():
        tokenizer = Tokenizer.from_file(str(file))
    else:
        from transformers import AutoTokenizer  # makes one of a vocabulary alone

        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _count(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """:return: the tokens of each text, special ones included."""
    lengths: list[int] = []
    for start in range(0, len(texts), CHUNK):
        lengths += [len(one) for one in tokenizer.encode_batch_fast(texts[start : start + CHUNK])]
    return lengths


def _limit(directory: Path) -> int:
    """RoBERTa and its kin have two positions more than they can use; their tokenizers know."""
    config = _read(directory / "config.json")
    positions = config.get("max_position_embeddings") or config.get("n_positions")
    return smallest_limit(_read(directory / "tokenizer_config.json").get("model_max_length"), positions)


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}


def _described(lengths: Sequence[int], limit: int) -> dict[str, Any]:
    ranked = sorted(lengths)
    cut = len(ranked) - bisect_right(ranked, limit)
    groups = Counter(BOUNDS[max(0, bisect_right(BOUNDS, length) - 1)] for length in ranked)
    return {
        "sample_rows": len(ranked),
        "limit": limit,
        "rows_cut": cut,
        "percent_cut": round(100 * cut / len(ranked), 3),
        "median": _percentile(ranked, 50),
        "percentile_90": _percentile(ranked, 90),
        "percentile_99": _percentile(ranked, 99),
        "longest": ranked[-1],
        "histogram": [[bound, groups[bound]] for bound in BOUNDS if min(groups) <= bound <= max(groups)],
    }


def _percentile(ranked: Sequence[int], percent: int) -> int:
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]
