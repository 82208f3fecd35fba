"""``--list``: operators, arms, shapes and relations, and why an arm cannot run here."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from kernels_bench.records.cases import Claims, Shape, candidate_name
from kernels_bench.records.catalogue import ArmInfo, Catalogue, OperatorInfo
from profiles.text import inert


def print_catalogue(catalogue: Catalogue, console: Console) -> None:
    """Everything that could be chosen on the command line."""
    compute = f" ({catalogue.device.sm})" if catalogue.device.sm else ""
    console.print(f"device: {inert(catalogue.device.name)}{compute}", markup=False, highlight=False)
    known = [relation.name for relation in catalogue.relations]
    arms = [(arm.name, _claims(arm.claims, known), _described(arm)) for arm in catalogue.arms]
    _table(console, "arms (--arm)", ("arm", "claims invariance", "what it is"), arms)
    operators = [(o.name, o.family, _defined(o), ", ".join(o.precisions)) for o in catalogue.operators]
    _table(console, "operators (--op)", ("operator", "family", "definition", "dtypes (--dtype)"), operators)
    relations = [(r.name, r.summary, "CUDA only" if r.needs_cuda else "") for r in catalogue.relations]
    _table(console, "relations (--relation)", ("relation", "batches compared", ""), relations)
    shapes = {shape.label: _sizes(shape) for o in catalogue.operators for shape in o.shapes}
    _table(console, "shapes (--shapes)", ("shape", "sizes"), sorted(shapes.items()))


def _defined(operator: OperatorInfo) -> str:
    """An operator's definition, and why it depends on the batch where it does."""
    why = operator.depends_on_batch
    return f"{operator.summary}; depends on the batch by definition: {why}" if why else operator.summary


def _described(arm: ArmInfo) -> str:
    """What an arm is, and what a reader must know of it here."""
    absent = arm.unavailable and f"cannot run here: {arm.unavailable}"
    several = f"{len(arm.candidates)} candidates, --arm '{candidate_name(arm.name, '*')}'" if arm.candidates else ""
    return "; ".join(filter(None, (arm.summary, several, arm.lacking, arm.caveat, absent)))


def _claims(claims: Claims, known: Sequence[str]) -> str:
    """In words; by what is left out where that is shorter."""
    if isinstance(claims, bool):
        return "yes" if claims else "no"
    left_out = [name for name in known if name not in claims]
    if 0 < len(left_out) < len(claims):
        return f"all but {', '.join(left_out)}"
    return ", ".join(claims) or "no"


def _sizes(shape: Shape) -> str:
    """A shape's sizes in words."""
    if shape.heads is not None:
        for_keys = [f"{shape.kv_heads} for keys and values"] if shape.kv_heads is not None else []
        parts = [
            *(f"{shape.heads} heads", *for_keys, f"d={shape.k}"),
            *([f"pages of {shape.page}, at most {shape.tokens} tokens"] if shape.page is not None else []),
            *([f"a window of {shape.window}"] if shape.window else []),
            *([f"logits capped at {shape.softcap}"] if shape.softcap else []),
            *(["sinks"] if shape.sinks else []),
        ]
        return f"{', '.join(parts)} ({shape.token})"
    named = {"B": shape.b, "N": shape.n, "K": shape.k}
    known = shape.sizes or tuple((name, size) for name, size in named.items() if size is not None)
    return ", ".join(f"{name}={size}" for name, size in known)


def _table(console: Console, title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(inert, row))
    console.print()
    with console.capture() as drawn:
        console.print(table, markup=False)
    for line in drawn.get().splitlines():  # which the table fills up with blanks
        console.out(line.rstrip(), highlight=False)
