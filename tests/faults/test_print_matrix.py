"""The fault matrix of printing: what tills hear, what the ledger says and what is on paper must agree in every cell.

The lines of "Printing twice, or not at all" that it covers: a retry that prints twice (odoo#240253); tickets of last
night in the morning and one dead printer that blocks the rest (pos-addons#682); success assumed (odoo#208611,
esc_pos_printer#198); a first job after a power cycle that vanishes (escpos-php#57); a printer that cannot be opened
again after it was off (python-escpos#437, #720, #387).
"""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.print_matrix import CELLS, DOCUMENT, Cell, Outcome, outcomes, table, written


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[Cell, Outcome]:
    """All cells, run once, side by side."""
    return asyncio.run(outcomes(tmp_path_factory.mktemp("matrix")))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_cell(found: dict[Cell, Outcome], cell: Cell) -> None:
    outcome = found[cell]
    # Never two receipts, unless a person asked for a duplicate; and what follows is not disturbed.
    assert outcome.begun <= 1, outcome
    assert outcome.ended <= outcome.begun, outcome
    assert outcome.next == 1, outcome
    assert outcome.duplicates == (1 if outcome.at_end == "unknown" else 0), outcome
    # "Printed" is on paper, whole, and proved; "sent" is all that a printer without proof can say.
    assert outcome.proven == (outcome.at_end == "printed"), outcome
    assert outcome.meanwhile != "printed" or cell.proves, outcome
    for state in (outcome.heard, outcome.at_end):
        assert state != ("sent" if cell.proves else "printed"), outcome
    if outcome.at_end in ("printed", "sent"):
        assert outcome.paper == "once", outcome
    # Nobody knows only what may have started.
    if "unknown" in (outcome.heard, outcome.meanwhile, outcome.at_end) or outcome.heard == "unknown_outcome":
        assert cell.moment == "during", outcome
    # A job that certainly had not started comes out when it can, and never in another life of the machine.
    if cell.moment == "before":
        assert (outcome.at_end == "expired") == (cell.fault == "gateway rebooted"), outcome
        assert outcome.paper == ("nothing" if outcome.at_end == "expired" else "once"), outcome
    if cell.moment == "after":
        assert outcome.heard == outcome.meanwhile == outcome.at_end, outcome
    # Asked for again it is the same job.
    assert outcome.again == {"unknown": "unknown_outcome"}.get(outcome.at_end, outcome.at_end), outcome


def test_the_document_shows_what_happens(found: dict[Cell, Outcome]) -> None:
    assert table(found) == written(), f"{DOCUMENT.name}: run  python -m tests.faults.print_matrix --write"
