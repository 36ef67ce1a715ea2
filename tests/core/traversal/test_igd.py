"""The texts of UPnP-IGD: what real routers say is understood, what hostile ones say leads nowhere."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.traversal import igd
from p2pxfer.core.traversal.igd import MAX_ANSWER, MAX_ELEMENTS, MAX_TEXT, BadAnswer, Control, Reply
from tests.core.traversal.igdanswers import IP1, outside, soap

GATEWAY = IPv4Address("192.168.1.1")
BASE = "http://192.168.1.1:5000/rootDesc.xml"
IP2 = "urn:schemas-upnp-org:service:WANIPConnection:2"
FOUND = (
    b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\n"
    b"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nEXT:\r\nSERVER: Debian UPnP/1.1 MiniUPnPd/2.3.1\r\n"
    b"LOCATION: http://192.168.1.1:5000/rootDesc.xml\r\nUSN: uuid:0::x\r\n\r\n"
)
"""As `miniupnpd` answers."""


def service(kind: str, url: str) -> str:
    return (
        f"<service><serviceType>{kind}</serviceType><serviceId>urn:x</serviceId><SCPDURL>/a.xml</SCPDURL>"
        f"<controlURL>{url}</controlURL><eventSubURL>/e</eventSubURL></service>"
    )


def description(*services: str, base: str = "") -> bytes:
    return (
        '<?xml version="1.0"?>\n<root xmlns="urn:schemas-upnp-org:device-1-0">'
        f"{base}<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:2</deviceType>"
        "<friendlyName>a &lt;b&gt; router</friendlyName><deviceList><device><serviceList>"
        f"{''.join(services)}</serviceList></device></deviceList></device></root>"
    ).encode()


OTHER = service("urn:schemas-upnp-org:service:Layer3Forwarding:1", "/ctl/L3F")


def test_the_search_is_one_of_upnp() -> None:
    lines = igd.search().split(b"\r\n")
    assert lines[0] == b"M-SEARCH * HTTP/1.1"
    assert b'MAN: "ssdp:discover"' in lines
    assert lines[-2:] == [b"", b""]


def test_where_the_description_is() -> None:
    assert igd.location(FOUND, GATEWAY) == BASE
    assert igd.location(FOUND.replace(b"LOCATION", b"Location").replace(b":5000", b""), GATEWAY) == (
        "http://192.168.1.1:80/rootDesc.xml"
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://198.18.0.10:5000/rootDesc.xml",
        "http://192.168.1.2:5000/",
        "https://192.168.1.1/",
        "ftp://192.168.1.1/",
        "http://router.local/",
        "http://user@192.168.1.1/",
        "http://192.168.1.1@198.18.0.10/",
        "http://192.168.1.1:99999/",
        "http://192.168.1.1:x/",
        "http://[::1]/",
        "http://[",
        "http://192.168.1.1/a b",
        "http://192.168.1.1/\x00",
        "http://3232235777/",
        "http://192.168.1.1/" + "a" * 600,
        "/rootDesc.xml",
        "",
    ],
)
def test_only_the_gateway_itself_is_asked(url: str) -> None:
    with pytest.raises(BadAnswer):
        igd.own_url(url, GATEWAY)
    with pytest.raises(BadAnswer):
        igd.location(FOUND.replace(BASE.encode(), url.encode()), GATEWAY)
    if url.partition("://")[2]:
        with pytest.raises(BadAnswer):
            igd.control(description(service(IP1, url)), BASE, GATEWAY)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        FOUND.replace(b"200 OK", b"404 No"),
        FOUND.replace(b"HTTP/1.1 200 OK", b"NOTIFY * HTTP/1.1"),
        FOUND.replace(b"InternetGatewayDevice", b"MediaServer"),
        FOUND + b"x" * MAX_ANSWER,
        b"HTTP/1.1",
    ],
)
def test_what_is_no_answer_to_the_search(answer: bytes) -> None:
    with pytest.raises(BadAnswer):
        igd.location(answer, GATEWAY)


def test_the_connection_service_is_found() -> None:
    text = description(OTHER, service(IP2, "/ctl/IPConn"))
    assert igd.control(text, BASE, GATEWAY) == Control("http://192.168.1.1:5000/ctl/IPConn", IP2)
    based = description(service(IP1, "ipc"), base="<URLBase>http://192.168.1.1:80/upnp/</URLBase>")
    assert igd.control(based, BASE, GATEWAY).url == "http://192.168.1.1:80/upnp/ipc"


@pytest.mark.parametrize(
    "text",
    [
        description(OTHER),
        description(service(IP1 + '" onload="x', "/c")),
        description(service(IP1, "/c"), base="<URLBase>http://198.18.0.10/</URLBase>"),
        b"",
        b"<root>",
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="nonsense"?><root/>',
        b'<?xml version="1.0" encoding="gb2312"?><root/>',
        b'<?xml version="1.0" encoding="idna"?><root/>',
        description(service(IP1, "/c")).replace(b"<root", b'<!DOCTYPE x [<!ENTITY a "b">]><root'),
        description(service(IP1, "/c")) + b" " * MAX_TEXT,
        b"<a>" * 40 + b"</a>" * 40,
        b"<a>" + b"<b/>" * MAX_ELEMENTS + b"</a>",
    ],
    ids=[
        "none",
        "kind",
        "base",
        "empty",
        "open",
        "octets",
        "encoding",
        "wide",
        "idna",
        "doctype",
        "long",
        "deep",
        "many",
    ],
)
def test_descriptions_that_lead_nowhere(text: bytes) -> None:
    with pytest.raises(BadAnswer):
        igd.control(text, BASE, GATEWAY)


def test_requests_and_replies() -> None:
    body = igd.request("AddPortMapping", IP1, igd.add_arguments(IPv4Address("192.168.1.10"), 23456, 23457, 3600))
    assert b"<NewExternalPort>23457</NewExternalPort><NewProtocol>TCP</NewProtocol>" in body
    assert b"<NewInternalClient>192.168.1.10</NewInternalClient>" in body
    assert b'<u:AddPortMapping xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">' in body
    answer = igd.reply(soap(outside("198.18.1.1")))
    assert igd.external_address(answer) == IPv4Address("198.18.1.1")
    fault = "<s:Fault><faultcode>s:Client</faultcode><detail><UPnPError><errorCode>718</errorCode></UPnPError></detail>"
    assert igd.reply(soap(fault + "</s:Fault>")) == Reply(error=718)
    assert igd.reply(soap("<UPnPError><errorCode>0</errorCode></UPnPError>")).error != 0


@pytest.mark.parametrize("text", ["", "router", "198.18.1.1.1", "::1", "198.18.1.1\n198.18.1.2"])
def test_an_outside_address_that_is_none(text: str) -> None:
    answer = igd.reply(soap(outside(text)))
    with pytest.raises(BadAnswer):
        igd.external_address(answer)


@pytest.mark.parametrize(
    "body",
    [
        b"<html><body><h1>401 Unauthorized</h1></body></html>",
        soap("<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring></s:Fault>"),
        soap(""),
        description(OTHER),
    ],
    ids=["page", "fault", "nothing", "description"],
)
def test_what_is_no_success(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        igd.reply(body)


def test_an_error_that_is_no_number() -> None:
    with pytest.raises(BadAnswer):
        igd.reply(soap("<UPnPError><errorCode>-1; rm</errorCode></UPnPError>"))


@given(st.binary(max_size=300))
def test_no_text_does_more_than_be_refused(data: bytes) -> None:
    for text in (data, FOUND[:80] + data, description(OTHER)[:200] + data):
        for read in (
            lambda one: igd.location(one, GATEWAY),
            lambda one: igd.control(one, BASE, GATEWAY),
            igd.reply,
        ):
            try:
                read(text)
            except BadAnswer:
                pass
