"""One prompt over many rows: what `CreateAgent.map` does, here or on Dask workers.

Rows become prompts (`prompts`), some of which were answered before (`resume`); a pool asks the rest (`pool`, or
`dask_pool` and `dask_worker`), each request in its turn (`limits`, `paced`); the answers are a frame (`results`).
Imported when `map` is called: it brings pandas.
"""
