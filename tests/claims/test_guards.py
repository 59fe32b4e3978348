"""Tests that each claim loses its verdict when it is made false, and that the deck's table is complete."""

import csv
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from dlintro.accelerators import resolve
from dlintro.claims import catalogue as claims
from dlintro.claims.bench import Bench
from dlintro.claims.guards import held, held_exchanged, measure_falsified
from dlintro.claims.measurements import Measurements, Row
from dlintro.claims.statements import FAILS, HOLDS, NOT_MEASURED, Count, Effect, Exact
from dlintro.claims.verdict import judge

KINDS = {"identity", "measured", "definition", "opinion", "picture missing", "transcription slip"}
DECK = Path(claims.__file__).with_name("deck.csv")
SECONDS_OF_ALL = 35 * 60
ASK_FOR_A_GPU = ("accelerators", "cudnn", "imagenet_size")  # without a GPU, some of their statements are not measured


def trains(name: str) -> bool:
    return "measured" in claims.load(name).CLAIM.kind


def measured(name: str) -> list[object]:
    return [pytest.mark.slow, pytest.mark.timeout(900)] if trains(name) else []


@pytest.mark.parametrize("name", [pytest.param(name, marks=measured(name)) for name in claims.names()])
def test_a_claim_made_false_loses_its_verdict(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger("lightning").handlers.clear()
    experiment = claims.load(name)
    bench = Bench(tmp_path, name, experiment.CLAIM, resolve("cpu"), quick=True)
    measurements = measure_falsified(bench, experiment)
    assert held(experiment.CLAIM, measurements) == []
    assert judge(experiment.CLAIM, measurements).verdict != HOLDS
    if name not in ASK_FOR_A_GPU:
        for statement in experiment.CLAIM.statements:
            assert statement.judge(measurements).verdict != NOT_MEASURED, statement.says


def test_what_holds_wrongly_is_named() -> None:
    """Here the arm "new" is better in the falsified experiment, too."""
    claim = replace(claims.load("grey_image").CLAIM, core=Effect("better", "acc", "new", "old"), stated=(), more=())
    rows = [
        Row("", "acc", arm, seed, value + 0.001 * seed**2)
        for arm, value in (("new", 0.95), ("old", 0.9))
        for seed in range(5)
    ]
    assert held(claim, Measurements(rows)) == ["holds although it was made false: better"]
    assert held(replace(claim, core=replace(claim.core, falsified=HOLDS)), Measurements(rows)) == []
    assert held(replace(claim, core=replace(claim.core, more="old", less="new")), Measurements(rows)) == []
    assert held_exchanged(claim, Measurements(rows)) == []


def test_claims_come_in_the_decks_order_and_fit_their_time() -> None:
    names = list(claims.experiments())
    assert sorted(names) == claims.names()
    assert names.index("batching") < names.index("flatten") < names.index("flatnet") < names.index("max_pooling")
    assert names.index("max_pooling") < names.index("activations") < names.index("cross_entropy") == len(names) - 2
    found = [experiment.CLAIM for experiment in claims.experiments().values()]
    assert sum(claim.seconds for claim in found) < SECONDS_OF_ALL
    for claim in found:
        assert claim.title and claim.slide and claim.says
        assert len({statement.says for statement in claim.statements}) == len(claim.statements)
        assert all(isinstance(check, Exact | Count) for check in claim.checks)
        assert all((claim.student.predict, claim.student.change, claim.student.expected))
        assert set(claim.kind.split(", ")) <= KINDS


def deck() -> list[dict[str, str]]:
    with DECK.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_no_row_of_the_deck_is_empty() -> None:
    rows = deck()
    assert len(rows) >= 90
    for row in rows:
        assert all(cell.strip() for cell in row.values()) and len(row) == 4, row
        assert row["kind"] in KINDS, row
        if row["kind"] in ("identity", "measured", "transcription slip"):
            assert row["experiment"].split()[0].strip(":;") in claims.names(), row


def test_a_claim_of_the_deck_names_its_slides_as_the_deck_does() -> None:
    """A claim that isn't in the deck belongs to another course; it comes last."""
    titles = {row["slide"] for row in deck()}
    shown = {row["experiment"].split()[0].strip(":;") for row in deck()}
    assert len(shown & set(claims.names())) >= 28
    for name, experiment in claims.experiments().items():
        assert name not in shown or any(title in experiment.CLAIM.slide for title in titles), name


def test_a_claim_that_the_deck_does_not_have_comes_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = [row for row in deck() if not row["experiment"].startswith("flatten")]
    with (tmp_path / "deck.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.setattr(claims, "DECK", tmp_path / "deck.csv")
    assert list(claims.experiments())[-1] == "flatten"


def test_a_falsified_verdict_is_a_verdict() -> None:
    for experiment in claims.experiments().values():
        for statement in experiment.CLAIM.statements:
            assert statement.falsified in ("", HOLDS, FAILS)
