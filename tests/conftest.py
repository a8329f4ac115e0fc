"""One torch thread a test process: nets this small gain nothing from more, and processes share the cores."""

import torch

torch.set_num_threads(1)
