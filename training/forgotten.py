"""
Know what must not come in again: texts and objects that were taken out of a store, one list for all its pipelines.

``forgotten.json``. A text is known by the first 128 bits of the SHA-256 of its normalised form, by which rows are
compared as well: whoever has both list and text can tell that it was forgotten, nobody can read it from there. Nothing
less would keep it from coming in again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from training.columns import Judged, Refused, lengths_of
from training.contract import BadInput, Unreachable
from training.reasons import FORGOTTEN
from training.text import identity_of
from training.writing import marked

if TYPE_CHECKING:
    import numpy as np

    from training.store import Store

LIST = "forgotten.json"


@dataclass(frozen=True)
class Forgotten:
    texts: frozenset[str] = frozenset()  # identities
    objects: frozenset[str] = frozenset()  # names, as sources give them
    unfinished: bool = False  # what is listed may still be in the store

    @classmethod
    def read(cls, store: Store) -> Forgotten:
        """:raises BadInput: the list is damaged. Read as empty it would let in again what was forgotten."""
        try:
            values = store.read_json(LIST)
        except FileNotFoundError:
            return cls()
        except ValueError as error:
            raise _damaged(store, error) from error
        try:
            return cls(frozenset(values["texts"]), frozenset(values["objects"]), values["unfinished"])
        except (KeyError, TypeError) as error:
            raise _damaged(store, error) from error

    @classmethod
    def in_force(cls, store: Store) -> Forgotten:
        """:raises Unreachable: something is being taken out of the store, or whoever did so was killed."""
        found = cls.read(store)
        if found.unfinished:
            raise Unreachable(
                f"{store.uri(LIST)}: texts or objects are being taken out of this store. Nothing was done. Retry when "
                "that has ended; if it was killed, go on with: ratchet forget PIPELINE --resume"
            )
        return found

    def require_unchanged(self, store: Store) -> None:
        """:raises Unreachable: more was forgotten since this was read, so that what was made may hold it."""
        if Forgotten.read(store) != self:
            raise Unreachable(
                f"{store.uri(LIST)}: texts or objects were forgotten while this step worked, and it may have read "
                "them. Nothing was written. A retry leaves them out."
            )

    @contextmanager
    def while_writing(self, store: Store) -> Iterator[None]:
        """
        For all that may hold a text: whoever forgets meanwhile waits for what is written inside, and looks through it.

        :raises Unreachable: as ``require_unchanged``.
        """
        with marked(store):
            self.require_unchanged(store)
            yield

    def write(self, store: Store) -> None:
        values = {"texts": sorted(self.texts), "objects": sorted(self.objects), "unfinished": self.unfinished}
        store.write_json(LIST, values)

    def with_more(self, texts: Iterable[str], objects: Iterable[str]) -> Forgotten:
        return replace(self, texts=self.texts | set(texts), objects=self.objects | set(objects))

    def has(self, text: str | None) -> bool:
        return text is not None and bool(self.texts) and identity_of(text) in self.texts

    @cached_property
    def words(self) -> set[tuple[int, int]]:
        """h0 and h1 of each text, as rows have them."""
        return {(int(text[:16], 16), int(text[16:], 16)) for text in self.texts}

    def leave_out(self, judged: Judged) -> Judged:
        """:return: forgotten texts refused without being kept; other refused rows without a forgotten text."""
        if not self.texts:
            return judged
        import numpy as np
        import pyarrow

        refused = [one._replace(text=None, label=None) if self.has(one.text) else one for one in judged.refused]
        rows = judged.rows
        places = self.places_in(rows["h0"].to_numpy(), rows["h1"].to_numpy())
        if places.size:
            refused += [Refused(row, FORGOTTEN, None, None) for row in rows["row"].to_numpy()[places].tolist()]
            keep = np.ones(rows.num_rows, bool)
            keep[places] = False
            rows = rows.filter(pyarrow.array(keep))
            return replace(judged, rows=rows, refused=refused, lengths=lengths_of(rows["text"]))
        return replace(judged, refused=refused)

    def places_in(self, h0: np.ndarray, h1: np.ndarray) -> np.ndarray:
        """:return: where the forgotten texts are among those with these identities."""
        import numpy as np

        first = np.fromiter((word[0] for word in self.words), np.uint64, len(self.words))
        suspects = np.flatnonzero(np.isin(h0, first))
        return np.array([i for i in suspects.tolist() if (int(h0[i]), int(h1[i])) in self.words], np.int64)


def _damaged(store: Store, error: Exception) -> BadInput:
    return BadInput(
        f"{store.uri(LIST)}: the list of what was forgotten is damaged ({type(error).__name__}: {error}). Nothing was "
        "done: without it forgotten texts and objects would come in again. Put the file back from a backup."
    )
