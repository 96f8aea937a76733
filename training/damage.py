"""Pass over what is damaged in a store, and say so: one broken file keeps nobody from what the others hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from training.contract import BadInput
from training.layout import is_damage


@dataclass(frozen=True)
class Damage:
    told: list[str] = field(default_factory=list)  # a sentence each

    @contextmanager
    def passed_over(self, uri: str) -> Iterator[None]:
        """What is inside ends where it meets damage, and ``uri`` is told. A server that is away is raised as ever."""
        try:
            yield
        except Exception as error:
            if not (_is_about_content(error) or is_damage(error)):
                raise
            self._tell(uri, error)

    def _tell(self, uri: str, error: Exception) -> None:
        told = (
            f"{uri} is damaged, so that nobody can tell what it holds ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}). Put it back and forget again, or remove it."
        )
        if told not in self.told:
            self.told.append(told)


def _is_about_content(error: Exception) -> bool:
    if isinstance(error, OSError):
        return isinstance(error, FileNotFoundError) or (type(error) is OSError and error.errno is None)  # pyarrow's
    return isinstance(error, (BadInput, LookupError, ValueError, TypeError))
