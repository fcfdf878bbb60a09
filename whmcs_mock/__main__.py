"""Run the command as ``python -m whmcs_mock``."""

from whmcs_mock.cli import main

main()
