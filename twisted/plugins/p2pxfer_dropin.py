"""Tells ``twistd`` and ``twist`` of the rendezvous server; the code it names is loaded only when it is used."""

from twisted.application.service import ServiceMaker

rendezvous = ServiceMaker(
    "p2pxfer-rendezvous",
    "p2pxfer.tap.rendezvous",
    "Rendezvous server and relay of p2pxfer.",
    "p2pxfer-rendezvous",
)
