"""How long a memory card lives on what is written to it, and what the store's processes have written.

Assumed, and no more than that: every block takes so many writes before it wears out, the card spreads writes evenly,
and it writes four times what it was given, because small writes cost whole pages and blocks inside it. Makers tell the
endurance of ordinary cards hardly ever (a few hundred writes are what TLC flash is good for); of high-endurance cards
as hours of recording: 32 GB for 2,500 to 5,000 h at 26 or 13 Mbit/s, about 29 TB, is 900 writes of every block.

Source: data sheets of SanDisk High Endurance (hours at 26 Mbit/s) and Kingston High-Endurance (at 13 Mbit/s) microSD
cards; proc(5), /proc/pid/io.
"""

from __future__ import annotations

from pathlib import Path

CARD_BYTES = 32e9
CYCLES = {"ordinary": 300, "high_endurance": 900}
WRITE_AMPLIFICATION = 4.0
DAYS_PER_YEAR = 365.25


def life_years(bytes_per_day: float) -> dict[str, float]:
    """Years until a 32 GB card is worn out by so much a day, by kind of card."""
    return {
        kind: CARD_BYTES * cycles / (bytes_per_day * WRITE_AMPLIFICATION) / DAYS_PER_YEAR
        for kind, cycles in CYCLES.items()
    }


def written_bytes(pid: int) -> int:
    """What a process has had written to disk so far, as the kernel counts it (whole pages of the page cache)."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise RuntimeError(f"the kernel does not tell what process {pid} has written")
