"""One thread a test process: small tensors, and machines of few cores; and any order of the tests."""

from random import Random

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--random-order", type=int, metavar="SEED", help="shuffle the files, and each file's tests"
    )


def pytest_report_header(config: pytest.Config) -> list[str]:
    seed = config.getoption("--random-order")
    return [] if seed is None else [f"random order: seed {seed}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of a file stay together, or its fixtures would be made again for every one of them."""
    seed = config.getoption("--random-order")
    if seed is not None:
        rng = Random(seed)
        files = {path: rng.random() for path in sorted({item.path for item in items})}
        items.sort(key=lambda item: (files[item.path], rng.random()))
