"""The machine of the rendezvous server: who is here, who meets whom, what is relayed."""
