"""The figures of the population as a page of documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scripts.matrixlib.page import NONE, filled, simple_table, titled
from scripts.poplib.mixes import ACCESS_S, ASSUMED, BACKBONE_S, BLOCK, HOME_BUSY, JITTER_S, MIXES, POOL, SHARES, SOURCES
from scripts.poplib.runs import AGE_S, Figures, Outcome, by_labels, figures
from scripts.poplib.world import NOMINATED, PUNCH_S

RARE = 20
"""Fewer pairs have no row of their own in the table of kinds."""


@dataclass(frozen=True, slots=True)
class Origin:
    """How the figures were made; ``rules`` is a hash of everything that is assumed."""

    command: str
    version: str
    rules: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One mix in one case, dialled in both ways."""

    ladder: Figures
    single: Figures


@dataclass(frozen=True, slots=True)
class Results:
    """By mix, case, and whether ports are mapped and IPv6 is there; and the outcomes of all central cases."""

    cells: dict[tuple[str, str, bool], Cell]
    ladder: tuple[Outcome, ...]
    single: tuple[Outcome, ...]


TITLE = """\
=====================
Simulated populations
=====================
"""

MADE = """\
Made by ``{origin.command}`` with p2pxfer {origin.version}, rules ``{origin.rules}``.  Not to be edited: the command
makes it again, byte for byte.
"""

HOW = """\
Which share of pairs would connect directly?  Nobody can say for "the internet", since nobody has published what NATs it
consists of.  So this page draws pairs from several mixes of kinds, from published shares where there are any and from
wide assumptions where there are none, and lets p2pxfer's own cores dial between modelled NATs in virtual time:
``core/traversal/discovery`` judges each NAT from observations, ``core/traversal/strategies`` plans,
``core/traversal/dialing`` says what to dial when and keeps the budget.  No formula stands for any of them.  Both peers
know each other, without which nothing but the observed endpoints is dialled.  A figure here is a statement about the
strategies under the assumptions named below; what whole programs do between kernel NATs is measured by
``scripts/matrix``.
"""

SINGLE = """\
The columns "one dial" show the same pairs with what most programs do: both sides are told of each other at the same
moment, listen on the port of their server connection, and dial the observed endpoint of the other from it, once.  The
kernel's repetitions of that SYN are in it; a dial that was refused is not repeated.
"""

SHARE = """\
Pairs that connected over IPv4, without any help of a router, in percent.  Behind the central case stands the interval
of 95 % confidence that the number of pairs leaves (Wilson), then the cases "hard" and "easy", where everything that is
not known is set against or for a connection.  The latter is the error that matters.
"""

TIMES = """\
The central cases: milliseconds from the introduction, when the first side hears of it, to the TCP connection, of the
pairs that connected; SYNs of both sides together to anybody but the server, repeated ones included, of all pairs.  Both
sides go on until the path is nominated, {nominated:g} round trips after the connection, or for {punch:g} s.
"""

MORE = """\
The same if routers at home that answer to UPnP were asked for a port, and where both machines have IPv6, in percent.  A
mapped port lets anybody in and counts only where no carrier's NAT stands before the router; IPv6 passes a firewall on
either side that admits what was dialled.  The one dial has both candidates too.
"""

LOST = """\
Central cases of all mixes together, by the worse of the boxes before each machine.  "cone": one mapping for all
destinations, ports that are kept, or a firewall only; "random", "block", "sequential": a port for each destination,
drawn from all ports, from {block}, or the next one; "pooled": of those, with any of {pool} addresses for each mapping.
Two cones fail where neither passes a simultaneous open.  Kinds with fewer than {rare} pairs are left out.
"""

PARAMETERS = """\
Shares in percent but for connections a second.  ``assumed`` means that nothing published was found; then the cases are
far apart.  Shares of carriers' NATs are published as shares of networks and stand here for shares of machines; how they
choose ports is published for mobile networks and stands here for others as well.  What filters and lacks simultaneous
open was counted at homes in 2005 and stands here for carriers too.  No property of a machine depends on another one.
"""

DELAYS = """\
Assumed in every case: a pool has {pool} addresses, a block {block} ports, a home router carries {home:g} other
connection a second.  A machine's access has a delay that is log-normal with a median of {near:g} ms at home and
{far:g} ms on a mobile network (sigma 0.5), and {low:g} to {high:g} ms more lead to the server, one way; the way between
two machines is no longer than the way past the server.  Each side starts when the server's word reaches it, and on
average {jitter:g} ms later.  What the server observed is {age:g} s old by then.
"""

PUBLISHED = """\
Rates of others, none of which is of the same thing:

- libp2p 2025: 70 % ± 7.1 % of attempts over TCP or QUIC, given that relay and observed addresses were there; 97.6 % of
  the successes came at the first attempt.  The machines were real ones, of unknown kinds.
- Ford 2005: 184 of 286 NATs (64 %) could do TCP hole punching.  That is a share of NATs, not of pairs.
- Halkes 2010: more than 80 % of attempts between punchable peers, over UDP.

That one dial does better here than 70 % in most mixes does not contradict the first: the model has no VPN, no firewall
that forbids, no peer that went away, no packet loss, and no address that was observed wrongly.  The difference between
the two ways of dialling is what this page is for.
"""

NOT_MODELLED = """\
- Loss, reordering, and delays that change; a host or NAT that is short of memory; a limit on SYNs or on ports of one
  subscriber (but a block can run out of ports).
- State of a NAT that ends during the punch; NATs that rewrite sequence numbers; hairpinning; two machines behind one
  NAT; VPNs; networks that forbid dialling out, which always take the relay.
- NAT64 and 464XLAT, and whatever they share with IPv6.
- How the shares depend on each other and on the country: networks with a carrier's NAT more often have IPv6.
- The server with one address only: here it observes from two addresses with two ports each.
- Strangers on the ports that are guessed at; time that the handshake takes; what a transfer on the relay loses
  meanwhile.
- A second punch after a loss.
"""


def render(origin: Origin, results: Results) -> str:
    """The whole page, as reStructuredText."""
    delays = DELAYS.format(
        pool=POOL, block=BLOCK, home=HOME_BUSY, near=1000 * ACCESS_S[0], far=1000 * ACCESS_S[1],
        low=1000 * BACKBONE_S[0], high=1000 * BACKBONE_S[1], jitter=1000 * JITTER_S, age=AGE_S,
    )  # fmt: skip
    mixes = "\n".join(f"{mix.name}\n    {mix.what[0].upper()}{mix.what[1:]}." for mix in MIXES)
    parts = [
        TITLE,
        _paragraph(MADE.format(origin=origin)),
        HOW,
        SINGLE,
        titled("Mixes", mixes),
        titled("Directly connected", f"{SHARE}\n{_shares(results, more=False)}"),
        titled("Time and SYNs", f"{_paragraph(TIMES.format(nominated=NOMINATED, punch=PUNCH_S))}\n{_times(results)}"),
        titled("With mapped ports and IPv6", f"{MORE}\n{_shares(results, more=True)}"),
        titled(
            "Which pairs are lost", f"{_paragraph(LOST.format(pool=POOL, block=BLOCK, rare=RARE))}\n{_kinds(results)}"
        ),
        titled("What is assumed of whom", f"{PARAMETERS}\n{_parameters()}\n\n{_paragraph(delays)}"),
        titled("Beside published rates", PUBLISHED),
        titled("What is not modelled", NOT_MODELLED),
        titled(
            "Sources", "\n".join(f"{name}\n{filled(text, indent='    ')}".rstrip() for name, text in SOURCES.items())
        ),
    ]
    return "\n".join(parts)


def _shares(results: Results, *, more: bool) -> str:
    lines = [["mix", "pairs", "p2pxfer", "95 %", "hard to easy", "one dial", "95 %", "hard to easy"]]
    for mix in MIXES:
        hard, central, easy = (results.cells[mix.name, case, more] for case in ("hard", "central", "easy"))
        line = [mix.name, str(central.ladder.pairs)]
        for way in ("ladder", "single"):
            middle: Figures = getattr(central, way)
            ends = (_percent(getattr(hard, way).share), _percent(getattr(easy, way).share))
            line += [_percent(middle.share), " to ".join(map(_percent, middle.interval)), " to ".join(ends)]
        lines.append(line)
    return simple_table(lines)


def _times(results: Results) -> str:
    lines = [["mix", "median", "90 %", "SYNs: median", "mean", "90 %", "one dial: median", "90 %", "SYNs: mean"]]
    for mix in MIXES:
        cell = results.cells[mix.name, "central", False]
        ladder, single = cell.ladder, cell.single
        lines.append([
            mix.name, _ms(ladder.median), _ms(ladder.p90), f"{ladder.syns_median:.0f}", f"{ladder.syns_mean:.0f}",
            f"{ladder.syns_p90:.0f}", _ms(single.median), _ms(single.p90), f"{single.syns_mean:.1f}",
        ])  # fmt: skip
    return simple_table(lines)


def _kinds(results: Results) -> str:
    lines = [["one", "other", "pairs", "p2pxfer", "median", "90 %", "SYNs: mean", "one dial"]]
    single = by_labels(results.single)
    for labels, outcomes in by_labels(results.ladder).items():
        if len(outcomes) < RARE:
            continue
        found = figures(outcomes)
        lines.append([
            *labels, str(found.pairs), _percent(found.share), _ms(found.median), _ms(found.p90),
            f"{found.syns_mean:.0f}", _percent(figures(single[labels]).share),
        ])  # fmt: skip
    return simple_table(lines)


def _parameters() -> str:
    lines: list[Sequence[str]] = [["what", "hard", "central", "easy", "source"]]
    for name, share in SHARES.items():
        scale = 1 if name == "carrier_busy" else 100
        values = (f"{round(value * scale, 1):g}" for value in (share.hard, share.central, share.easy))
        lines.append([share.what, *values, ASSUMED if share.source == ASSUMED else share.source])
    return simple_table(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _ms(seconds: float | None) -> str:
    return NONE if seconds is None else f"{1000 * seconds:.0f}"


def _paragraph(text: str) -> str:
    return f"{filled(text)}\n"
