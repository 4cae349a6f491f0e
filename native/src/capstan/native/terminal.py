"""Ctrl-C under make: make would turn a clean exit into code 130, so the signal must not reach it."""

import atexit
import os
import signal


def take_terminal() -> None:
    """Become the terminal's foreground process group, until this process ends. Does nothing without a terminal.

    Ctrl-C then reaches this process alone. Ctrl-Z is ignored, since the shell would not see us stop.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        foreground = os.tcgetpgrp(terminal)
    except OSError:
        return
    if foreground != os.getpgrp() or foreground == os.getpid():
        return  # in the background, or not under make at all
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    atexit.register(os.tcsetpgrp, terminal, foreground)
