"""Which share of a population of pairs the dialling cores connect directly, in a modelled world of NATs."""
