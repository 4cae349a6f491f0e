"""Runs vLLM's API server: `python -m capstan.worker.launch <arguments of vLLM>`.

vLLM's engine process starts by importing again whatever module the server was started as. Started as
`python -m vllm.entrypoints.openai.api_server`, that is the whole HTTP API, some 9 s of CPU time for nothing;
started as this module, it is this file.
"""

import runpy

from capstan.common.logs import configure_logging

if __name__ == "__main__":
    configure_logging("worker")  # until vLLM reads its own, which says the same
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
