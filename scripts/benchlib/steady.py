"""How fast the payload flows once it flows, against one plain TCP stream of the same machine.

Ours is the rate of a large file over loopback between the first and the last event of progress at the receiver, so that
neither the start of the programs nor the end counts; the bare work and iperf3 take their turns after each copy.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from scripts.benchlib import loopback, rivals
from scripts.benchlib.rivals import MissingToolError
from scripts.benchlib.table import Failed, Row, Setting, median_row
from scripts.product import ProgramError

LEAST = 1 / 3
"""The least that p2pxfer's rate should be, as a share of iperf3's."""
STREAM_S = 2
MIB = 1 << 20


def rows(setting: Setting) -> Iterable[Row | Failed]:
    """The group of rows."""
    source = setting.folder / "source.bin"
    loopback.generate(source, setting.size_mib)
    streams: list[float] = []
    bare = rivals.Bare(setting.folder)
    try:
        rivals.tool("iperf3")
        with loopback.ours(setting.folder) as product:
            for number in range(setting.runs):
                loopback.one_run(setting.folder, source, product.copy)
                loopback.one_run(setting.folder, source, bare.copy)
                streams.append(rivals.iperf3(setting.folder, STREAM_S) / MIB)
                setting.say(f"run {number + 1} of {setting.runs}: iperf3 {streams[-1]:.0f} MiB/s")
        ours, floor = ([rate / MIB for rate in rates] for rates in (product.rates, bare.rates))
        if not ours:
            raise ProgramError("the copies were too short to have a steady state; give a larger --size")
    except (ProgramError, MissingToolError, OSError) as error:
        setting.say(f"steady state: {error}")
        yield Failed("steady state", str(error))
        return
    yield median_row("steady state, p2pxfer", ours, "MiB/s")
    yield median_row("steady state, bare work", floor, "MiB/s")
    yield median_row("steady state, iperf3, one stream", streams, "MiB/s")
    rate = statistics.median(ours)
    yield Row("steady state, rate of p2pxfer : bare work", rate / statistics.median(floor), "")
    yield Row(
        "steady state, rate of p2pxfer : iperf3", rate / statistics.median(streams), "", round(LEAST, 3), at_least=True
    )
