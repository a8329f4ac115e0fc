"""Inline: runs one job after the other in this process."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from rib.execute.board import Board
from rib.execute.malloc import keep_freed
from rib.execute.worker import do_steps, limit_threads
from rib.steps import Workshop


class InThisProcess:
    """Runs one job after the other in this process.

    Args:
        device: device of the steps.
    """

    def __init__(self, device: str) -> None:
        self.device = device

    def run(self, board: Board) -> None:
        """Run until no job is left."""
        how, threads = replace(board.how, device=self.device), torch.get_num_threads()
        torch.set_num_threads(how.threads)
        keep_freed()
        workshop = Workshop(board.plan.suite, board.store, how, board.watcher.images)
        try:
            with limit_threads(how.threads):
                while (number := board.take()) is not None or board.waits:
                    if number is None:
                        time.sleep(board.patience or 0)
                        continue
                    do_steps(workshop, board.begin(number), board.tell)
                    board.end(number)
        finally:
            torch.set_num_threads(threads)
