"""`python -m demo.picture FILE.svg`: the live view of a running demo store as a picture, for the README.

A real store runs for a while with the WAN cut, so that the picture shows what Tillgate is for: selling goes on, facts
wait. Nothing is staged but the moment.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from demo.catalogue import read_catalogue
from demo.live import View
from demo.open_store import PACE, Events, sell_and_tell, tell_changes
from demo.places import Places, log_to
from demo.shop import Shop
from demo.shopper import Cashier, till_for

SELL_S = 25.0
OUTAGE_S = 20.0
COLUMNS = 130


async def take(file: Path) -> None:
    """Run a store, cut its WAN, and write what the live view shows."""
    from rich.console import Console

    with tempfile.TemporaryDirectory(prefix="tillgate-") as folder:
        places = Places(Path(folder), 2, spare=True)
        log_to(places)
        async with Shop(places, print) as shop, AsyncExitStack() as stack:
            events = Events(None)
            shop.watch.on_change = lambda topic: tell_changes(shop, events)
            tills = [await stack.enter_async_context(till_for(lane, places)) for lane in places.lanes]
            chance = random.Random()
            cashiers = [
                Cashier(lane, till, shop.control, places, read_catalogue(), PACE, f"{chance.random()}", None)
                for lane, till in zip(places.lanes, tills, strict=True)
            ]
            selling = asyncio.create_task(sell_and_tell(shop, cashiers, events), name="cashiers")
            await asyncio.sleep(SELL_S)
            await shop.wan.cut()
            events.add("the WAN is cut")
            await asyncio.sleep(OUTAGE_S)
            view = View(shop, cashiers, events.lines)
            view.twins = await shop.control.devices()
            with (Path(folder) / "screen.txt").open("w") as nowhere:
                console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
                console.print(view)
            # The fonts of whoever looks will do: nothing is fetched from elsewhere.
            drawn = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="./dev run"), flags=re.DOTALL)
            file.write_text(drawn.replace("Fira Code,monospace", "monospace"), encoding="utf-8")
            selling.cancel()
            await asyncio.gather(selling, return_exceptions=True)
        places.release()


def main() -> int:
    """Take the picture."""
    parser = argparse.ArgumentParser(prog="python -m demo.picture", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE.svg", help="where to write it")
    asyncio.run(take(parser.parse_args().file))
    return 0


if __name__ == "__main__":
    sys.exit(main())
