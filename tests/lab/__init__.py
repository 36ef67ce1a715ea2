"""A network laboratory in kernel namespaces: two hosts behind two NATs, a server, a public network.

`topology.Lab` builds it, `nat.NatKind` says how a router behaves, `delay` is the access line,
`crosstraffic` other people's connections, `syns` a counter, and `probe` holds the sockets that
check all of this.

What is the kernel's own NAT, and what is built upon it:

- Translation, port preservation, per-flow filtering ("port-restricted"), simultaneous open, TCP
  window checks and the ten seconds an entry lives after a RST are all `nf_conntrack`/`nf_nat`.
- Random but endpoint-independent ports are the kernel's choice from a range. Linux keeps giving
  one inside endpoint the same outside port while a connection of it lives; an nftables map makes
  that last for ten minutes, as it does on home routers.
- Filtering wider than per-flow is a pair of nftables maps filled by outbound SYNs only, so an
  outside port is open to others (full cone), or to the addresses dialled from it (address
  restricted), after the inside host has used it and never before.
- "Symmetric" is the kernel's fully random masquerade: a fresh port for every connection, from 64512;
  "block" is the same within a few hundred ports, as carriers give them to a customer. "Sequential"
  is a counter of nftables that all hosts behind the router share.
- Without support for simultaneous open ("no-simo") a rule ahead of conntrack drops the bare SYN of
  whoever was dialled; its SYN-ACK passes.
- A hairpin is destination translation for packets from inside, too, and source translation on the way back in.
- RST and ICMP for unsolicited packets are nftables rejects; the kernel limits ICMP errors to one
  a second per peer after a burst of six, as real routers do. "rst-limited" limits RST, too.
- What the kernel's NAT cannot do is done in user space by the program of the access line (`tunnat`): a port of its own
  for every connection, even between the same two endpoints, and the inside port's number for one connection only.
- IPv6 is routed, never translated; a home's firewall is a few rules of nftables on conntrack's states.
- The conntrack setting `tcp_loose` is off, so a flow whose entry was lost stays dead; with the
  kernel's default a router with preserved ports would revive it at the next outbound packet.
"""

from __future__ import annotations
