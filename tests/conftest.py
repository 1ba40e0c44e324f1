"""One thread a test process: small tensors, and machines of few cores."""

import torch

torch.set_num_threads(1)
