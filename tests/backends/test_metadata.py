"""A model file whose metadata is damaged is named in one line."""

from pathlib import Path

import onnx
import pytest

from stream_enhance.backends import open_session
from stream_enhance.errors import ModelError
from tests.conftest import Models

ULTRALYTICS = {"stride": "32", "imgsz": "[640, 640]"}


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({}, "no card in the model's metadata"),
        ({"card": "{"}, "the card in its metadata is damaged"),
        ({"card": "[1]"}, "the card in its metadata is damaged"),
        ({"card": '{"name": 7}'}, "the card in its metadata is damaged"),
        ({**ULTRALYTICS, "imgsz": "large"}, "its metadata .* is damaged"),
        ({**ULTRALYTICS, "imgsz": "[]"}, "its metadata .* is damaged"),
        ({**ULTRALYTICS, "imgsz": "7"}, "its metadata .* is damaged"),
        ({**ULTRALYTICS, "imgsz": '["a"]'}, "its metadata .* is damaged"),
        ({**ULTRALYTICS, "kpt_shape": "x"}, "its metadata .* is damaged"),
        ({**ULTRALYTICS, "kpt_shape": "{}"}, "its metadata .* is damaged"),
        ({**ULTRALYTICS, "kpt_shape": "[17, 3]"}, "has 17 points a face, not 5"),
    ],
)
def test_damaged_metadata_is_one_line(models: Models, tmp_path: Path, metadata: dict[str, str], says: str) -> None:
    model = onnx.load(str(models.detector))
    del model.metadata_props[:]
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    path = tmp_path / "damaged.onnx"
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=f"damaged.onnx: {says}") as raised:
        open_session(path, "face-detection", "cpu")
    assert "\n" not in str(raised.value)
