"""Tells ``twistd`` and ``twist`` of the rendezvous server and the agent; the code is loaded when it is used."""

from twisted.application.service import ServiceMaker

rendezvous = ServiceMaker(
    "p2pxfer-rendezvous",
    "p2pxfer.tap.rendezvous",
    "Rendezvous server and relay of p2pxfer.",
    "p2pxfer-rendezvous",
)

agent = ServiceMaker(
    "p2pxfer-agent",
    "p2pxfer.tap.agent",
    "Agent of p2pxfer: receives, exposes services and sends what is queued, with nobody there.",
    "p2pxfer-agent",
)
