"""What a verdict rests on: a run that was narrowed says so, and does not end as one that tried all."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.records.cases import Device
from kernels_bench.records.manifest import read_records
from kernels_bench.records.results import RelationResult, Verification
from kernels_bench.relations import relations
from kernels_bench.report.markdown import markdown
from kernels_bench.report.sentences import outcome, tried_text
from kernels_bench.report.summary.coverage import relations_left_out, tried
from kernels_bench.report.summary.schema import ArmFact, RunSummary, Tried
from kernels_bench.report.summary.summarise import exit_status, summarise_run
from support import PLUGINS
from support.processes import Ended, together
from support.records import broken, case, facts, held, verified

CPU, GPU = Device(type="cpu", name="here"), Device(type="cuda", name="NVIDIA H100", capability=(9, 0))
SPLIT = ("--op", "mm", "--shapes", "8,16", "--dtype", "fp32", "--batch", "16,64", "--quick")
PLUGGED = ("--plugin", PLUGINS / "split_below_8.py", "--arm", "split-below-8")


@dataclass(frozen=True)
class Narrowed:
    """How two runs ended.

    Attributes:
        batch: that with ``--batch``.
        relation: that with ``--relation``.
        run: directory of the first.
    """

    batch: Ended
    relation: Ended
    run: Path


@pytest.fixture(scope="module")
def narrowed(tmp_path_factory: pytest.TempPathFactory) -> Narrowed:
    """The same kernels, looked at with options that once left most of the look out."""
    place = tmp_path_factory.mktemp("narrowed")
    of = {
        "batch": (*SPLIT, *PLUGGED),
        "relation": (*SPLIT, *PLUGGED, "--relation", "repeat"),
    }
    ended = together({name: (*words, "--out", place / name) for name, words in of.items()})
    return Narrowed(ended["batch"], ended["relation"], place / "batch")


def test_a_batch_to_time_takes_nothing_from_what_is_verified(narrowed: Narrowed) -> None:
    assert narrowed.batch.status == 1
    assert "split-below-8 claims batch invariance and did not keep it" in " ".join(narrowed.batch.out.split())


def test_relations_that_were_left_out_are_named_and_keep_the_status_from_0(narrowed: Narrowed) -> None:
    said = " ".join(narrowed.relation.out.split())
    assert narrowed.relation.status == 3
    assert "invariance kept it" not in said
    assert "kept what was tried of it: split-below-8; left out: relations batch_size, position, neigh" in said
    assert "if that is meant, say so with --partial (exit status 3)" in said
    assert re.search(r"tried: repeat at \d+ M from 1 to 256", said)


def test_records_tell_the_m_that_were_really_compared(narrowed: Narrowed) -> None:
    (found,) = [one for one in read_records(narrowed.run) if isinstance(one, Verification)]
    result = next(one for one in found.relations if one.relation == "batch_size")
    companies = {int(spec.split(":")[1]) for spec in result.broken}
    assert {1, 7} <= companies <= set(result.sizes)
    assert {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 64} <= set(result.sizes)
    assert result.sizes == tuple(sorted(set(result.sizes)))
    said = " ".join(narrowed.batch.out.split())
    for relation in ("repeat", "batch_size", "position", "neighbour_content"):
        assert relation in said.split("tried: ")[1].split("verdict")[0]


@given(st.sets(st.sampled_from([*relations()])), st.sets(st.sampled_from(["mm", "rms_norm", "attention_prefill"])))
def test_what_has_no_meaning_is_not_left_out(asked: set[str], of_operators: set[str]) -> None:
    left_out = relations_left_out(asked, of_operators, CPU)
    assert not {*left_out} & asked
    assert "graph" not in left_out
    sequences = "attention_prefill" in of_operators
    assert ("chunking" in left_out) == (sequences and "chunking" not in asked)
    assert ("repeat" in left_out) == (bool(of_operators) and "repeat" not in asked)
    assert ("graph" in relations_left_out(asked, of_operators, GPU)) == (bool(of_operators) and "graph" not in asked)
    assert relations_left_out(None, of_operators, GPU) == ()
    assert relations_left_out(asked, ["an operator of another version"], GPU) == ()


def of_claims(claims: bool | tuple[str, ...], **said: object) -> RunSummary:
    arms = (ArmFact(name="mine", claims=claims),)
    return summarise_run([verified(case("mine"), held("repeat"))], facts(arms=arms, **said))


@pytest.mark.parametrize(
    ("claims", "left_out", "status"),
    [
        (True, ("position",), 3),
        (True, (), 0),
        (("repeat", "position"), ("position",), 3),
        (("repeat",), ("position",), 0),
        (False, ("position",), 0),
    ],
)
def test_only_what_an_arm_claims_can_be_missed(
    claims: bool | tuple[str, ...], left_out: tuple[str, ...], status: int
) -> None:
    summary = of_claims(claims, relations_left_out=left_out)
    assert exit_status(summary) == status
    assert exit_status(of_claims(claims, relations_left_out=left_out, partial_accepted=True)) == 0
    assert ("left out: relation position" in outcome(summary)) == bool(left_out)
    assert ("--partial" in outcome(summary)) == (status == 3)


def test_an_old_runs_batch_left_sizes_out() -> None:
    summary = of_claims(True, sizes_left_out=True)
    assert exit_status(summary) == 3
    assert "left out: most M" in outcome(summary)
    assert "tried: repeat at M not recorded" in markdown(summary)


def test_the_m_of_all_cases_are_those_that_every_case_has() -> None:
    def at(status: str, *sizes: int, reason: str = "") -> Verification:
        result = RelationResult.model_validate(
            {"relation": "position", "status": status, "sizes": sizes, "reason": reason}
        )
        return verified(case("mine"), result)

    assert tried([at("held", 1, 2, 3), at("broken", 2, 3, 4)]) == (Tried(relation="position", sizes=(2, 3)),)
    assert tried([at("failed", 1), at("broken", 1, reason="it crashed"), at("inconclusive", 1)]) == ()


def test_relations_at_the_same_m_are_told_together() -> None:
    sized = [held(name).model_copy(update={"sizes": (1, 16)}) for name in ("repeat", "position")]
    sized.append(held("batch_size").model_copy(update={"sizes": (1, 2, 16)}))
    (operator,) = summarise_run([verified(case("mine"), *sized)], facts()).operators
    assert tried_text(operator) == "tried: repeat and position at M=1, 16; batch_size at M=1, 2, 16"
    assert tried_text(operator.model_copy(update={"tried": ()})) == ""


def test_many_m_are_counted_and_are_no_range() -> None:
    sized = held("batch_size").model_copy(update={"sizes": (1, 2, 3, 5, 256)})
    (operator,) = summarise_run([verified(case("mine"), sized)], facts()).operators
    assert tried_text(operator) == "tried: batch_size at 5 M from 1 to 256"


UNSUPPORTED = RelationResult(relation="graph", status="unsupported", reason="needs a CUDA device")


@pytest.mark.parametrize(
    ("claims", "results", "status", "said"),
    [
        (("graph",), (held("repeat"), UNSUPPORTED), 3, "claims that stay open: 1 case of mine"),
        (("batch_size",), (held("repeat"),), 3, "claims that stay open: 1 case of mine"),
        (("repeat",), (held("repeat"), broken()), 0, "kept it: mine (repeat alone)"),
        (("repeat", "graph"), (held("repeat"), UNSUPPORTED), 0, "kept it: mine (repeat, graph alone)"),
        (True, (held("repeat"), UNSUPPORTED), 0, "kept it: mine"),
    ],
)
def test_a_claim_of_which_nothing_was_examined_is_open_and_one_that_held_is_kept(
    claims: bool | tuple[str, ...], results: tuple[RelationResult, ...], status: int, said: str
) -> None:
    arms = (ArmFact(name="mine", claims=claims),)
    for meant in (False, True):
        summary = summarise_run([verified(case("mine"), *results)], facts(arms=arms, partial_accepted=meant))
        assert exit_status(summary) == status
        assert said in outcome(summary)
        assert any("was not examined" in notice.text for notice in summary.notices) == (status == 3)
