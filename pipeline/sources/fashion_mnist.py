"""Fashion-MNIST: pictures of ten kinds of clothing, in files of MNIST's form and names."""

from dataclasses import dataclass
from typing import Literal

from pipeline.sources.contract import About
from pipeline.sources.mnist import SIDE, InMnistsForm, official

OFFICIAL = official(
    "fashion_mnist",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    train=("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
    test=("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
)
CLASSES = """
T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot
"""


@dataclass(frozen=True, kw_only=True)
class FashionMnist(InMnistsForm):
    """Fashion-MNIST; ``validation`` of its 60,000 training pictures are set aside by ``seed``."""

    parts = OFFICIAL
    source: Literal["fashion_mnist"] = "fashion_mnist"

    def about(self) -> About:
        return About(
            shape=(1, SIDE, SIDE),
            classes=tuple(name.strip() for name in CLASSES.split(",")),
            origin="Fashion-MNIST, Xiao, Rasul and Vollgraf (2017), Zalando Research",
            licence="MIT",
        )
