"""cuBLASLt's algorithms one by one, of which a plan may choose; no binding is loaded to list them.

cuBLASLt has hundreds of them, and for given sizes a list of those that its heuristic thinks fastest.  torch takes the
first, with whatever its workspace allows.  Here each candidate is a place in such a list, with K in one part or cut
into a fixed number of parts: which algorithm that is may change with M, and whether its bits do is seen by comparing.
"""

from __future__ import annotations

from typing import NamedTuple


class Algorithm(NamedTuple):
    """One of the algorithms that cuBLASLt's heuristic lists.

    Attributes:
        place: in the list, the best first and 1; the last one's where a list is shorter.
        parts: K is cut into so many, which are added up in fp32 by a kernel of their own.
        rows: M of the sizes that the list is for, and the same algorithm at every M; 0 for the list of each M.
    """

    place: int
    parts: int = 1
    rows: int = 0

    @property
    def label(self) -> str:
        """Such as ``algorithm2``, ``algorithm1-4parts`` or ``algorithm1-of-M128``."""
        parts = f"-{self.parts}parts" if self.parts > 1 else ""
        return f"algorithm{self.place}{parts}" + (f"-of-M{self.rows}" if self.rows else "")

    @property
    def order(self) -> str:
        """What is meant to be its order of addition."""
        return f"{self.parts} parts" if self.parts > 1 else "in one part"


ALGORITHMS = (
    *(Algorithm(place) for place in range(1, 7)),
    *(Algorithm(1, parts) for parts in (2, 4, 8, 16)),
    *(Algorithm(place, rows=rows) for rows in (16, 128, 1024) for place in (1, 2)),
)
