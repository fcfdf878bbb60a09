"""Run the command, as ``python -m whmcs_mock`` or as the script ``whmcs-mock``."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the process without a traceback, even during imports

from whmcs_mock.cli import main  # after the signal is set

if __name__ == "__main__":
    main()
