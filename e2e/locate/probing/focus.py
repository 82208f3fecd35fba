"""What of an engine is watched: the larger the parts, the less it takes; what gave other bits is looked into."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from e2e.locate.seen.trace import shown

Paths = frozenset[str]
WHOLE = ""
"""Path of the model as a whole, and of what is outside of all modules."""
OUTSIDE: Paths = frozenset({WHOLE})


class Focus(NamedTuple):
    """Which calls a pass is told of.

    Attributes:
        modules: paths of modules whose calls are watched; None for all.
        inside: paths of those of them whose own operators are, `OUTSIDE` among them; None for all.  In the others
            nothing is dispatched through Python, which takes longer than most operators do.
    """

    modules: Paths | None = None
    inside: Paths | None = None

    def has(self, path: str) -> bool:
        """Whether a module is watched."""
        return self.modules is None or path in self.modules

    def looks_into(self, path: str) -> bool:
        """Whether a module's own operators are watched."""
        return self.inside is None or path in self.inside


EVERYTHING = Focus()


def layers_in(paths: Iterable[str]) -> Focus:
    """Layers, and the modules outside of all layers."""
    return Focus(OUTSIDE | {path for path in paths if shown(path)}, OUTSIDE)


def modules_in(paths: Iterable[str]) -> Focus:
    """All modules."""
    return Focus(frozenset(paths), OUTSIDE)


def operators_in(paths: Collection[str], modules: Collection[str]) -> Focus:
    """Layers, and everything in some modules.

    Args:
        paths: of all modules.
        modules: paths of these; of what they are in the modules alone.
    """
    inside = OUTSIDE | {path for path in paths if within(path, modules)}
    around = {path for path in paths if any(within(one, [path]) for one in modules)}
    watched = layers_in(paths).modules
    assert watched is not None
    return Focus(watched | inside | around, inside)


def within(path: str, modules: Iterable[str]) -> bool:
    """Whether a path is one of some modules', or is in any of them."""
    return any(not one or path == one or path.startswith(one + ".") for one in modules)
