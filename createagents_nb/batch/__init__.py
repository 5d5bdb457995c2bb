"""One prompt over many rows: what `CreateAgent.map` does, here or on Dask workers.

Rows become prompts (`prompts`), some of which were answered before (`results`). A pool asks the rest (`pool`, or
`dask_pool` and `dask_worker`) within the limits (`rate_limiter` and `wrappers.throttled`). The answers become a
frame (`results`). Imported when `map` is called, because it needs pandas.
"""
