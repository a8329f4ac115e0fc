"""The command line: a module a family of commands; options, inputs and output are what they share."""

from rib.cli.app import main as main
