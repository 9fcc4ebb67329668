"""One way to be a context manager: ``close`` on the way out."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

Closed = TypeVar("Closed", bound="Closing")


class Closing(ABC):
    """Closed when its ``with`` block is left."""

    @abstractmethod
    def close(self) -> None:
        """Free what is held; a second call does nothing."""

    def __enter__(self: Closed) -> Closed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
