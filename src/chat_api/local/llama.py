"""Runs llama.cpp's own server over one model: `python -m chat_api.local.llama '<JSON>'`.

A process of its own, because loading a model holds Python's global lock for seconds, because a
broken model file may end the process, and because ending it is the one sure way to get all of its
memory back. Prints the address that it listens on (loopback, any free port) as a line on standard
output once the model is loaded; requests need the key in LLAMA_KEY as a bearer token.

The JSON object: `path`, `chat_template`, `slots`, `context_tokens` (of each slot).
"""

import json
import os
import signal
import sys

import psutil
import xllamacpp

_ERRORS_ONLY = 1
# Prompts are read in pieces of so many tokens. Between two, other answers get their next token and
# a request whose client has gone is dropped; on two slow cores a piece takes half a second.
_BATCH_TOKENS = 128
_PROMPT_CACHE_MIB = 256


def _threads() -> int:
    """Return the number of threads: one for each core but one.

    llama.cpp's threads wait for each other at every layer of the model, so one that finds no core
    holds up all. On two busy cores one thread writes twice as fast as two.
    """
    cores = psutil.cpu_count(logical=False) or 1
    if hasattr(os, "sched_getaffinity"):  # Linux
        cores = min(cores, len(os.sched_getaffinity(0)))
    return max(1, cores - 1)


def main() -> int:
    spec = json.loads(sys.argv[1])
    params = xllamacpp.CommonParams()
    params.model.path = spec["path"]
    params.chat_template = spec["chat_template"]
    params.n_parallel = spec["slots"]
    params.n_ctx = spec["slots"] * spec["context_tokens"]
    params.n_batch = params.n_ubatch = _BATCH_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = _threads()
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    params.fit_params = False  # the sizes above are meant
    # Its "pure content" parser would drop an answer's beginning that is to be continued.
    params.force_pure_content_parser = False
    params.api_keys = [os.environ["LLAMA_KEY"]]
    params.endpoint_slots = True
    params.ui = False
    params.verbosity = _ERRORS_ONLY
    try:
        server = xllamacpp.Server(params)
    except RuntimeError:
        sys.stderr.write(f"llama.cpp cannot load {spec['path']}\n")
        return 1
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
