"""`python -m capstan.native run | smoke | evaluate | evaluate-assistant | ask QUESTION`."""

import argparse
import asyncio
import shutil
import sys

from capstan.common.settings import die, load
from capstan.native.ask import AskFailed, ask
from capstan.native.console import Console
from capstan.native.evaluate import evaluate, evaluate_assistant
from capstan.native.run import run, smoke
from capstan.native.settings import NativeSettings
from capstan.native.stack import StackError, api_key, free_ports, running_gateway
from capstan.native.terminal import take_terminal


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(prog="capstan-native")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="start the stack and stay in the foreground")
    commands.add_parser("smoke", help="start a stack on free ports, ask, check, stop")
    commands.add_parser("evaluate", help="start a stack on free ports, evaluate it, write the report, stop")
    commands.add_parser("evaluate-assistant", help="the same for an adapter and its base model as writers of answers")
    commands.add_parser("ask", help="ask the running stack").add_argument("question")
    arguments = parser.parse_args()
    settings = load(NativeSettings)
    if arguments.command != "ask":
        take_terminal()
    try:
        if arguments.command == "run":
            sys.exit(asyncio.run(run(settings)))
        if arguments.command == "smoke":
            shutil.rmtree(settings.state / "smoke", ignore_errors=True)
            sys.exit(asyncio.run(smoke(_apart(settings, "smoke"))))
        if arguments.command == "evaluate":
            sys.exit(asyncio.run(evaluate(_apart(settings, "evaluate"))))
        if arguments.command == "evaluate-assistant":
            sys.exit(asyncio.run(evaluate_assistant(_apart(settings, "evaluate"))))
        if not arguments.question.strip():
            die('ask something: make ask Q="How do I create a VPC?"')
        asyncio.run(ask(running_gateway(settings), api_key(settings), arguments.question, Console()))
    except (StackError, AskFailed) as error:
        die(str(error))


def _apart(settings: NativeSettings, name: str) -> NativeSettings:
    """Free ports and a state of its own, so that a running stack is not touched."""
    return free_ports(settings.model_copy(update={"state_dir": settings.state / name}))


if __name__ == "__main__":
    main()
