"""The name of a batch: from it the batch can be made again anywhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchSpec:
    """``KIND:M`` or ``KIND:M:ARGUMENT:…`` in parts.

    Attributes:
        kind: how rows are chosen and served, one of `batch_kinds`.
        size: M.
        arguments: whole numbers, whose meaning is the kind's.
    """

    kind: str
    size: int
    arguments: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> BatchSpec:
        """Read what ``str`` gives.

        Raises:
            ValueError: the text has another form.
        """
        kind, *numbers = text.split(":")
        try:
            size, *arguments = (int(number) for number in numbers)
        except ValueError:
            raise ValueError(f"batch {text!r}: expected KIND:M or KIND:M:ARGUMENT with whole numbers") from None
        return cls(kind, size, tuple(arguments))

    def __str__(self) -> str:
        return ":".join(map(str, (self.kind, self.size, *self.arguments)))
