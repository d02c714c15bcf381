import numpy as np
import pytest

from stream_enhance.backends.card import Card
from stream_enhance.backends.preprocessing import to_images, to_input

CARD = Card(
    name="fake", task="face-enhancement", size=64, scale=127.5, mean=(1.0, 1.0, 1.0), std=(1.0, 1.0, 2.0), license="",
    data="", recipe="", commit="", weights_sha256="",
)  # fmt: skip


def test_to_input_is_what_the_card_says() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    image[..., 0], image[..., 2] = 255, 255
    batch = to_input([image, image], CARD)
    assert batch.shape == (2, 3, 4, 5)
    assert batch.dtype == np.float32
    assert np.allclose(batch[0, :, 0, 0], [1.0, -1.0, 0.5])


@pytest.mark.parametrize("mean", [(0.0, 0.0, 0.0), (1.0, 0.5, 0.25)])
def test_to_images_is_the_inverse_and_saturates(mean: tuple[float, float, float]) -> None:
    card = CARD.model_copy(update={"mean": mean})
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3), np.uint8)
    assert np.array_equal(to_images(to_input(list(images), card), card), images)
    beyond = np.full((1, 3, 4, 4), 9.0, np.float32)
    assert to_images(beyond.copy(), card).min() == 255
    assert to_images(-beyond, card).max() == 0
