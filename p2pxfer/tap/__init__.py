"""What ``twistd`` and ``twist`` run: the rendezvous server, and the agent of a machine."""
