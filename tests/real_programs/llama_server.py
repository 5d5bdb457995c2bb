"""Runs llama.cpp's server with a model file: ``llama_server.py MODEL PORT``. Runs in the programs' environment."""

import sys
import time

import xllamacpp  # type: ignore[import-not-found,unused-ignore]

params = xllamacpp.CommonParams()
params.model.path, params.port, params.hostnames = sys.argv[1], int(sys.argv[2]), ["127.0.0.1"]
params.n_parallel, params.n_ctx = 2, 2048
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
while True:
    time.sleep(3600)
