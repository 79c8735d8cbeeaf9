"""The client library a lane uses: facts kept until accepted, requests with deadlines, fresh scans, presence.

    async with Till(store="1042", lane="lane-3", ledger_path=Path("lane-3.db"), address="127.0.0.1:1883") as till:
        scan = await till.next_scan()
        price = await till.price(scan.gtin or scan.text)
        await till.fact(SaleCompleted(...))          # on this machine's disk when it returns
        await till.request("print", {"document": [...]})

A till machine needs `edge.bus` and `edge.till`, and no other part of Tillgate.
"""

from edge.till.ledger import Fact, FactState, Ledger, WrongLedger
from edge.till.outbox import Accepted, Pending, Refused
from edge.till.prices import Price
from edge.till.scans import Rejection, Scan
from edge.till.till import Till

__all__ = [
    "Accepted",
    "Fact",
    "FactState",
    "Ledger",
    "Pending",
    "Price",
    "Refused",
    "Rejection",
    "Scan",
    "Till",
    "WrongLedger",
]
