"""The command line: one module per family of commands, and modules for the options, inputs and output that they
share."""

from rib.cli.app import main as main
