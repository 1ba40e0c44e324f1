import pytest
import torch

from bt_model.errors import UnknownNameError
from bt_model.vision.encoder import ChatFeatures
from bt_model.vision.pool import POOLINGS, pooling

FEATURES = ChatFeatures(torch.arange(12.0).view(2, 3, 2), -torch.arange(1.0, 5.0).view(2, 2))


def test_patches_cls_puts_the_cls_last() -> None:
    tokens = pooling("patches_cls")(FEATURES)
    assert tokens.tolist() == [
        [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [-1.0, -2.0]],
        [[6.0, 7.0], [8.0, 9.0], [10.0, 11.0], [-3.0, -4.0]],
    ]


def test_patches_leaves_the_cls_out() -> None:
    assert torch.equal(pooling("patches")(FEATURES), FEATURES.patches)


def test_an_unknown_pooling_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(UnknownNameError, match="pooling is 'mean'; allowed: patches_cls, patches") as caught:
        pooling("mean")
    assert caught.value.param == "pooling"
    assert list(POOLINGS) == ["patches_cls", "patches"]
