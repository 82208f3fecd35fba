"""A run as JUnit XML: a test for each case of each arm, which fails as the exit status does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree

from kernels_bench.records.cases import Claims
from kernels_bench.records.latest_records import LatestRecords
from kernels_bench.records.results import Verification
from kernels_bench.report.summary.findings_text import describe
from kernels_bench.report.summary.schema import RunSummary
from kernels_bench.report.summary.summarise import breaks_a_claim


def junit(found: LatestRecords, summary: RunSummary) -> str:
    """JUnit XML of a run's verifications, one suite for each arm.

    A case fails where it breaks a relation that its arm claims, or its result is wrong; one that failed to run is an
    error, one that the arm does not offer is skipped. That an arm changes bits that claims nothing fails no test; it is
    told in the case's output.
    """
    claims = {arm.arm: arm.claims for arm in summary.arms}
    root = ElementTree.Element("testsuites", name="samebits")
    for arm in claims:
        mine = [v for v in found.verifications.values() if v.case.arm == arm]
        suite = ElementTree.SubElement(root, "testsuite", name=arm)
        counts = {"failure": 0, "error": 0, "skipped": 0}
        for verification in mine:
            counts_as = _add(suite, verification, claims)
            if counts_as in counts:
                counts[counts_as] += 1
        suite.attrib |= {
            "tests": str(len(mine)),
            "failures": str(counts["failure"]),
            "errors": str(counts["error"]),
            "skipped": str(counts["skipped"]),
            "time": f"{sum(v.seconds for v in mine):.3f}",
        }
    ElementTree.indent(root)
    return _DECLARATION + ElementTree.tostring(root, encoding="unicode")


_DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'


def _add(suite: ElementTree.Element, verification: Verification, claims: Mapping[str, Claims]) -> str:
    """Add a case; what it counts as."""
    case = verification.case
    name = f"{case.operator} {case.shape.token} {case.precision}"
    test = ElementTree.SubElement(suite, "testcase", classname=f"{case.arm}.{case.operator}", name=_inert(name))
    test.set("time", f"{verification.seconds:.3f}")
    kind, text = _outcome(verification, claims[case.arm])
    if kind:
        told = ElementTree.SubElement(test, kind)
        told.text = _inert(text)
        if kind not in ("system-out", "skipped"):
            told.set("type", verification.verdict)
        if kind != "system-out":
            told.set("message", _inert(text.partition("\n")[0]))
    return kind


def _outcome(verification: Verification, claims: Claims) -> tuple[str, str]:
    """The element that tells of a case, and its text; both empty where all is well."""
    if verification.wrong:
        return "failure", verification.wrong
    if verification.status in ("failed", "skipped"):
        return "error", verification.reason
    if verification.status == "unsupported":
        return "skipped", verification.reason
    if verification.verdict == "inconclusive":
        return "error", "no relation could be examined" if claims else ""
    if verification.verdict != "variant":
        return "", ""
    return "failure" if breaks_a_claim(verification, claims) else "system-out", _what_changed(verification)


def _what_changed(verification: Verification) -> str:
    found = verification.counterexample
    if found is not None:
        return f"{describe(found)}\n{found.command}"
    broken = [f"{one.relation}: {one.reason}" for one in verification.relations if one.status == "broken"]
    return "; ".join(broken) or "the order of addition changes with M"


def _inert(text: str) -> str:
    """Text without what XML 1.0 cannot hold, such as control characters and lone surrogates."""
    return _UNFIT.sub("?", text)


_UNFIT = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
