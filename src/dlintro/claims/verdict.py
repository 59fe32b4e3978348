"""Computes a claim's verdict from its measurements alone, and judges it with its arms exchanged.

One statement, the core, carries the verdict. The others are stated by the slide too, or add what it doesn't state, or
are checks: if a check fails, the experiment itself is wrong. If the core compares two arms, the arm `less` is compared
with itself as well, with other seeds (A/A). That is a check, too.
"""

import math
from dataclasses import dataclass, replace

from dlintro.claims.claim import Claim
from dlintro.claims.measurements import Measurements
from dlintro.claims.sentences import stated
from dlintro.claims.statements import (
    CHECK_FAILED,
    FAILS,
    HOLDS,
    IN_PART,
    NOT_MEASURED,
    UNDECIDED,
    Comparison,
    Effect,
    Finding,
    Statement,
)
from dlintro.claims.statistics import Interval, interval

CORE, STATED, MORE, CHECK = "core", "stated", "more", "check"  # a statement's role in its claim
SAME = "Identical settings with other seeds show no difference"


@dataclass(frozen=True)
class Judged:
    """A claim's verdict, and (role, finding) of each statement."""

    verdict: str
    findings: tuple[tuple[str, Finding], ...]


def judge(claim: Claim, measurements: Measurements) -> Judged:
    core = claim.core.judge(measurements)
    findings = [(CORE, core)]
    for role, statements in ((STATED, claim.stated), (MORE, claim.more), (CHECK, claim.checks)):
        findings += [(role, statement.judge(measurements)) for statement in statements]
    if isinstance(claim.core, Comparison) and core.verdict != NOT_MEASURED:
        findings.append((CHECK, same(claim.core, measurements, core.n)))
    return Judged(overall(findings), tuple(findings))


def overall(findings: list[tuple[str, Finding]]) -> str:
    """Return a claim's verdict from its findings, of which the first is the core's. What is undecided or not measured
    beside the core changes nothing."""
    core = findings[0][1].verdict
    checks = {finding.verdict for role, finding in findings if role == CHECK}
    if checks & {FAILS, CHECK_FAILED}:
        return CHECK_FAILED
    if core != NOT_MEASURED and UNDECIDED in checks:
        return UNDECIDED
    if core == HOLDS and any(role == STATED and finding.verdict == FAILS for role, finding in findings):
        return IN_PART
    return core


def same(core: Comparison, measurements: Measurements, n: int) -> Finding:
    """Compare the arm `less` with itself. If the first interval misses 0, the second one counts. By chance, both miss
    once in 10,000 times."""
    found = comparisons(core, measurements, n)
    needed = 1 if found and found[0].contains_0 else 2
    if len(found) < needed:
        return Finding(SAME, UNDECIDED, f"“{core.less}” needs {(len(found) + 2) * n} seeds for this check.", n)
    last = found[needed - 1]
    if not math.isfinite(last.mean):
        return Finding(SAME, UNDECIDED, f"Some runs of “{core.less}” have no value, so this can't be told.", n)
    words = f"“{core.less}” differs from itself by {stated(last, '' if core.ratio else core.unit)}"
    words += ", as a logarithm" if core.ratio else ""
    words += ", measured again after a first interval that missed 0" if needed > 1 else ""
    return Finding(SAME, HOLDS if last.contains_0 else CHECK_FAILED, words + ".", n)


def comparisons(core: Comparison, measurements: Measurements, n: int) -> list[Interval]:
    """Return the second n seeds of the arm `less` minus the first n, and the third n minus the mean of both, as far as
    they were measured. The two differences are independent of each other."""
    values_nN = core.values(measurements, core.less)
    first, second, third = (values_nN[start : start + n] for start in (0, n, 2 * n))
    pairs = [(second, first), (third, (first + second) / 2)] if len(second) == n else []
    return [interval(later - earlier, core.grid) for later, earlier in pairs if len(later) == n]


def exchanged(statement: Statement) -> Effect | None:
    """Return an effect with its arms exchanged, or None for another statement."""
    return replace(statement, more=statement.less, less=statement.more) if isinstance(statement, Effect) else None
