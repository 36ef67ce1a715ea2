"""Asking a router by PCP and NAT-PMP: the datagrams, octet by octet, and the machine with a router of the test."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.traversal import pcp
from p2pxfer.core.traversal.pcp import PcpMapped, PmpAddress, PmpMapped, Unsupported
from p2pxfer.core.traversal.portcontrol import (
    GIVE_UP_S,
    LEAST_PAUSE_S,
    LIFETIME_S,
    LONGEST_S,
    PATIENCE_S,
    SEND_AT,
    Granted,
    PortControl,
    State,
)
from p2pxfer.core.traversal.routes import default_gateway
from tests.core.traversal.portanswers import (
    NONCE,
    OUTSIDE,
    PCP_UNKNOWN,
    PORT,
    pcp_answer,
    pmp_address_answer,
    pmp_answer,
)
from tests.moments import for_now

ME = IPv4Address("192.168.1.10")


PCP_ASK = pcp.pcp_map(ME, NONCE, PORT, PORT, LIFETIME_S)
PCP_DELETE = pcp.pcp_map(ME, NONCE, PORT, 0, 0)
PMP_ASK = pcp.pmp_map(PORT, PORT, LIFETIME_S)
PMP_DELETE = pcp.pmp_map(PORT, 0, 0)


class Router:
    """The machine, the time, and what the router answers to each datagram."""

    def __init__(self, answers: Callable[[bytes], bytes | None] = lambda _: None) -> None:
        self.core = PortControl(ME, PORT, NONCE)
        self.answers = answers
        self.now = 100.0
        self.sent: list[tuple[float, bytes]] = []

    def begin(self) -> None:
        self.core.begin(self.now)
        self.run()

    def run(self) -> None:
        """Send what is due, and hand over the answers at once."""
        while datagrams := self.core.due(self.now):
            for datagram in datagrams:
                self.sent.append((self.now, datagram))
                answer = self.answers(datagram)
                if answer is not None:
                    self.core.receive(answer, self.now)

    def until(self, end: float) -> None:
        """Let time pass as the machine wants to be woken."""
        self.run()
        for _ in range(1000):
            wake = self.core.wake()
            if wake is None or wake > end:
                self.now = end
                return
            self.now = max(self.now, wake)
            self.run()
        raise AssertionError("the machine wants to be woken without end")

    def times(self, datagram: bytes) -> list[float]:
        return [when - 100.0 for when, sent in self.sent if sent == datagram]


def both(datagram: bytes) -> bytes | None:
    """A router that speaks PCP and NAT-PMP."""
    if datagram[0] == 2:
        lifetime = struct.unpack_from("!I", datagram, 4)[0]
        return pcp_answer(lifetime=lifetime)
    return only_pmp(datagram)


def only_pmp(datagram: bytes) -> bytes | None:
    """A router that has never heard of PCP and says so."""
    if datagram[0] == 2:
        return PCP_UNKNOWN
    if datagram == pcp.pmp_address():
        return pmp_address_answer()
    lifetime = struct.unpack_from("!I", datagram, 8)[0]
    return pmp_answer(lifetime=lifetime, external=40001 if lifetime else 0)


# -- datagrams ---------------------------------------------------------------------------------------------------------


def test_requests_octet_by_octet() -> None:
    """RFC 6887, sections 7.1 and 11.1; RFC 6886, sections 3.2 and 3.3."""
    assert pcp.pcp_map(ME, NONCE, 0x5BA0, 0x1234, 3600).hex() == (
        "02010000" "00000e10" "00000000000000000000ffffc0a8010a"
        "000102030405060708090a0b" "06000000" "5ba0" "1234" "00000000000000000000ffff00000000"
    )  # fmt: skip
    assert pcp.pmp_address().hex() == "0000"
    assert pcp.pmp_map(0x5BA0, 0x1234, 3600).hex() == "000200005ba0123400000e10"
    assert pcp.pmp_map(0x5BA0, 0, 0).hex() == "000200005ba0000000000000"


def test_answers_of_a_real_router() -> None:
    """As `miniupnpd` 2.3.1 sent them."""
    assert pcp.decode(bytes.fromhex("0080000000003107c6110101")) == PmpAddress(0, 0x3107, IPv4Address("198.17.1.1"))
    mapped = (
        "0281000000000078000031070000000000000000000000006e6e6e6e6e6e6e6e6e6e6e6e"
        "060000005ba05ba000000000000000000000ffffc6110101"
    )
    assert pcp.decode(bytes.fromhex(mapped)) == PcpMapped(
        0, 120, 0x3107, b"n" * 12, 6, 23456, 23456, IPv4Address("198.17.1.1")
    )
    assert pcp.decode(bytes.fromhex("02810001" + "00" * 56)) == Unsupported(2)


def test_other_answers() -> None:
    assert pcp.decode(pmp_answer()) == PmpMapped(0, 3600, 7, PORT, 40001)
    assert pcp.decode(PCP_UNKNOWN) == Unsupported(0)
    assert pcp.decode(struct.pack("!BBHI", 0, 130, 2, 9)) == PmpMapped(2, 0, 9, 0, 0)
    assert pcp.decode(struct.pack("!BBHI", 0, 128, 3, 9)) == PmpAddress(3, 9, IPv4Address(0))
    native = pcp.decode(pcp_answer(host=IPv6Address("2606:4700::1").packed))
    assert isinstance(native, PcpMapped)
    assert native.external_host == IPv6Address("2606:4700::1")


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x02\x81\x00",
        pcp_answer()[:-1],
        PCP_ASK,
        pcp.pmp_map(PORT, PORT, 60),
        pmp_answer()[:-1],
        pmp_address_answer()[:-1],
        b"\x07" + pcp_answer()[1:],
        pcp_answer() + bytes(pcp.MAX_DATAGRAM),
        struct.pack("!BBHI", 0, 129, 0, 9) + bytes(8),
    ],
    ids=["empty", "three", "short", "request", "pmp-request", "pmp-short", "pmp-cut", "version", "oversize", "udp"],
)
def test_what_is_no_answer(datagram: bytes) -> None:
    assert pcp.decode(datagram) is None


@given(st.binary(max_size=1200))
def test_nothing_makes_the_decoder_or_the_machine_fail(datagram: bytes) -> None:
    router = Router()
    router.begin()
    for head in (b"", b"\x00\x80", b"\x00\x82\x00\x00", b"\x02\x81\x00\x00", b"\x02\x81\x00\x02"):
        router.core.receive(head + datagram, router.now)
        router.run()
    granted = router.core.granted
    assert granted is None or granted.external.port > 0


# -- the machine -------------------------------------------------------------------------------------------------------


def test_pcp_gives_a_port_and_nat_pmp_is_only_heard() -> None:
    router = Router(both)
    router.begin()
    assert router.core.state is State.MAPPED
    assert router.core.granted == Granted("pcp", Endpoint(OUTSIDE, 40000))
    assert router.core.speaks == {"pcp", "nat-pmp"}
    assert [sent for _, sent in router.sent] == [PCP_ASK, pcp.pmp_address()]


def test_a_router_that_says_it_knows_nat_pmp_only_is_asked_by_that_at_once() -> None:
    router = Router(only_pmp)
    router.begin()
    assert router.core.granted == Granted("nat-pmp", Endpoint(OUTSIDE, 40001))
    assert router.core.speaks == {"nat-pmp"}
    assert router.times(PMP_ASK) == [0.0]


def test_a_router_that_keeps_silent_about_pcp_is_asked_by_nat_pmp_soon() -> None:
    router = Router(lambda datagram: None if datagram[0] == 2 else only_pmp(datagram))
    router.begin()
    assert for_now(router.core.granted) is None
    router.until(100 + PATIENCE_S)
    assert router.core.granted == Granted("nat-pmp", Endpoint(OUTSIDE, 40001))
    assert router.times(PMP_ASK) == [PATIENCE_S]


def test_silence_ends_after_a_few_questions() -> None:
    router = Router()
    router.begin()
    router.until(100 + GIVE_UP_S + 0.01)
    assert router.core.state is State.NOTHING
    assert router.times(PCP_ASK) == router.times(pcp.pmp_address()) == list(SEND_AT)
    assert router.core.wake() is None
    assert (router.core.speaks, router.core.refusal) == (set(), "")


def test_icmp_ends_it_at_once() -> None:
    router = Router()
    router.begin()
    router.core.nobody_there(router.now)
    assert router.core.state is State.NOTHING
    assert router.core.wake() is None


def test_a_lost_question_is_repeated() -> None:
    router = Router()
    router.begin()
    router.answers = both
    router.until(100.3)
    assert router.core.state is State.MAPPED
    assert router.times(PCP_ASK) == [0.0, 0.25]


@pytest.mark.parametrize(
    "answer",
    [
        pcp_answer(nonce=b"x" * 12),
        pcp_answer(protocol=17),
        pcp_answer(internal=PORT + 1),
        pmp_answer(),
        pcp_answer(host=IPv6Address("2606:4700::1").packed),
        pcp_answer(external=0),
        pcp_answer(lifetime=1),
        pcp_answer(result=2),
        pcp_answer(result=200),
    ],
    ids=["nonce", "udp", "port", "not asked", "ipv6", "port 0", "a second", "refused", "unknown code"],
)
def test_answers_that_grant_nothing(answer: bytes) -> None:
    router = Router()
    router.begin()
    router.core.receive(answer, router.now)
    router.until(103)
    assert router.core.state is State.NOTHING
    assert router.core.granted is None


def test_a_refusal_is_told_in_words() -> None:
    router = Router(lambda datagram: pcp_answer(result=2) if datagram[0] == 2 else None)
    router.begin()
    router.until(103)
    assert router.core.refusal == "the router does not allow it"
    router = Router(lambda datagram: pmp_address_answer(result=3) if datagram[0] == 0 else PCP_UNKNOWN)
    router.begin()
    assert (router.core.state, router.core.refusal) == (State.NOTHING, "the router does not allow it")


def test_renewed_at_half_life_with_the_port_that_was_given() -> None:
    router = Router(both)
    router.begin()
    router.until(100 + LIFETIME_S * 2)
    again = pcp.pcp_map(ME, NONCE, PORT, 40000, LIFETIME_S)
    assert router.times(again) == [LIFETIME_S / 2, LIFETIME_S, LIFETIME_S * 1.5, LIFETIME_S * 2]
    assert router.core.state is State.MAPPED


def test_nat_pmp_is_renewed_with_the_address_which_may_be_new() -> None:
    router = Router(only_pmp)
    router.begin()
    new = IPv4Address("198.18.1.2")
    router.answers = lambda datagram: (
        pmp_address_answer(host=new) if datagram == pcp.pmp_address() else only_pmp(datagram)
    )
    router.until(100 + LIFETIME_S / 2)
    assert router.core.granted == Granted("nat-pmp", Endpoint(new, 40001))


def test_a_router_that_fell_silent_is_asked_more_and_more_often_until_the_port_is_lost() -> None:
    router = Router(both)
    router.begin()
    router.answers = lambda _: None
    router.until(100 + LIFETIME_S + 1)
    begun = sorted({round(when - 100) for when, _ in router.sent})
    assert begun[1:4] == [LIFETIME_S // 2, LIFETIME_S // 2 + 1, LIFETIME_S // 2 + 2]  # and the repeats
    assert for_now(router.core.state) is State.NOTHING
    assert router.core.granted is None
    rounds = router.times(pcp.pcp_map(ME, NONCE, PORT, 40000, LIFETIME_S))
    pauses = [after - before for before, after in itertools.pairwise(rounds) if after - before > GIVE_UP_S]
    assert len(pauses) > 3
    assert min(pauses) > LEAST_PAUSE_S - GIVE_UP_S
    router.answers = both
    router.begin()
    assert router.core.state is State.MAPPED


def test_a_new_registration_makes_sure_that_the_port_still_stands() -> None:
    router = Router(both)
    router.begin()
    router.now += 60
    router.answers = lambda datagram: pcp_answer(external=41111, epoch=0) if datagram[0] == 2 else None
    router.begin()
    assert router.core.granted == Granted("pcp", Endpoint(OUTSIDE, 41111))


def test_a_lifetime_without_end_is_looked_after_all_the_same() -> None:
    router = Router(lambda datagram: pcp_answer(lifetime=0xFFFFFFFF) if datagram[0] == 2 else None)
    router.begin()
    router.until(103)
    wake = router.core.wake()
    assert wake is not None
    assert wake - 100 == pytest.approx(LONGEST_S / 2)


@pytest.mark.parametrize("refusal", [pmp_answer(result=4), None], ids=["refused", "silent"])
def test_while_pcp_is_silent_the_machine_sleeps_though_nat_pmp_gave_nothing(refusal: bytes | None) -> None:
    router = Router(
        lambda sent: pmp_address_answer() if sent == pcp.pmp_address() else refusal if sent == PMP_ASK else None
    )
    router.begin()
    woken = 0
    while (wake := router.core.wake()) is not None:
        assert wake > router.now
        router.now = wake
        router.run()
        woken += 1
    assert woken <= 2 * len(SEND_AT) + 3
    assert router.core.state is State.NOTHING


def test_nat_pmp_that_refused_once_is_asked_again_with_the_next_registration() -> None:
    router = Router(lambda sent: pmp_answer(result=4) if sent == PMP_ASK else only_pmp(sent))
    router.begin()
    router.until(110)
    assert router.core.state is State.NOTHING
    router.answers = only_pmp
    router.begin()
    assert router.core.granted == Granted("nat-pmp", Endpoint(OUTSIDE, 40001))
    assert router.core.refusal == ""


def test_nat_pmp_is_asked_again_after_its_port_ran_out() -> None:
    router = Router(only_pmp)
    router.begin()
    router.answers = lambda _: None
    router.until(100 + LIFETIME_S + 1)
    assert for_now(router.core.state) is State.NOTHING
    router.answers = only_pmp
    router.begin()
    assert router.core.state is State.MAPPED
    router.core.release(router.now)
    router.run()
    assert router.sent[-1][1] == PMP_DELETE


def test_nat_pmp_that_was_not_asked_again_is_still_asked_to_delete() -> None:
    """It may have given a port in an attempt whose answers were lost."""
    router = Router(lambda sent: only_pmp(sent) if sent[:2] != b"\0\2" else None)
    router.begin()
    router.until(110)
    router.answers = lambda _: None
    router.begin()
    router.core.release(router.now)
    router.run()
    assert PMP_DELETE in [sent for _, sent in router.sent]


def test_nat_pmp_that_takes_its_word_back_is_not_asked_on_and_on() -> None:
    router = Router(lambda sent: PCP_UNKNOWN if sent[0] == 2 else pmp_address_answer() if len(sent) == 2 else None)
    router.begin()
    for _ in range(5):
        router.core.receive(bytes.fromhex("02810001") + bytes(56), router.now)
        router.run()
    assert len(router.times(PMP_ASK)) == 1


@pytest.mark.parametrize(("answers", "delete"), [(both, PCP_DELETE), (only_pmp, PMP_DELETE)])
def test_released(answers: Callable[[bytes], bytes | None], delete: bytes) -> None:
    router = Router(answers)
    router.begin()
    router.core.release(router.now)
    assert router.core.granted is None
    router.run()
    assert router.sent[-1][1] == delete
    assert not router.core.parting
    assert not router.core.under_way
    router.core.begin(router.now)
    router.until(200)
    assert router.sent[-1][1] == delete
    assert router.core.state is State.RELEASED


def test_only_a_router_that_speaks_is_waited_for() -> None:
    """It has never answered PCP, though it was asked; NAT-PMP's confirmation is lost once."""
    router = Router(lambda datagram: None if datagram[0] == 2 else only_pmp(datagram))
    router.begin()
    router.until(101)
    router.answers = lambda _: None
    router.core.release(router.now)
    router.run()
    assert for_now(router.core.parting)
    router.answers = lambda datagram: None if datagram[0] == 2 else only_pmp(datagram)
    router.until(101.3)
    assert not router.core.parting
    assert router.core.under_way


def test_what_was_asked_without_an_answer_is_given_back_too() -> None:
    router = Router()
    router.begin()
    router.core.release(router.now)
    router.until(110)
    assert router.times(PCP_DELETE) == list(SEND_AT)
    assert router.core.wake() is None


def test_an_answer_that_comes_after_the_release_grants_nothing() -> None:
    router = Router()
    router.begin()
    router.core.release(router.now)
    assert not router.core.parting  # nothing was ever heard
    router.core.receive(pcp_answer(), router.now)
    assert router.core.granted is None
    assert not router.core.under_way


# -- the way to the router ---------------------------------------------------------------------------------------------

TABLE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0
wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth1\t00000000\t0103A8C0\t0002\t0\t0\t1\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
"""


def test_the_gateway_of_the_best_default_route() -> None:
    assert default_gateway(TABLE) == IPv4Address("192.168.1.1")


@pytest.mark.parametrize(
    "table", ["", "nonsense\nand more\n", TABLE.splitlines()[0], "\n".join(TABLE.splitlines()[:2])]
)
def test_no_gateway(table: str) -> None:
    assert default_gateway(table) is None
