"""Providers: adapters for the servers that run models. `registry` is the table of them."""
