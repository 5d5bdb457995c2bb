"""Providers: what is on the other side of a request. `registry` is the table of them."""
