"""What a router answers that is asked over UPnP."""

from __future__ import annotations

IP1 = "urn:schemas-upnp-org:service:WANIPConnection:1"


def soap(inner: str) -> bytes:
    return (
        '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
        f"{inner}</s:Body></s:Envelope>"
    ).encode()


def outside(host: str) -> str:
    """The answer to GetExternalIPAddress."""
    name = "u:GetExternalIPAddressResponse"
    return f"<{name}><NewExternalIPAddress>{host}</NewExternalIPAddress></{name}>"
