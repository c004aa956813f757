"""llama.cpp's own server (package xllamacpp) with room for 32 clients: llama_server.py GGUF PORT THREADS"""

import sys
import time

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.port, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
params.n_parallel, params.n_ctx = 32, 32 * 512
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
while True:
    time.sleep(3600)
