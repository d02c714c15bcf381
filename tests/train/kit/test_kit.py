"""A kit packs what it names, stays under its limits, and trains and resumes where it is unpacked."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.train import portraits

torch = pytest.importorskip("torch")
pytest.importorskip("tensorboard")

from train.common.images import read_image  # noqa: E402
from train.common.schedule import Limit  # noqa: E402
from train.enhancer.data import read_index  # noqa: E402
from train.kit.checkpoint import grow, slim  # noqa: E402
from train.kit.cli import main  # noqa: E402
from train.kit.pack import TALLEST, write_parts  # noqa: E402

RECIPE = "configs/train/enhancer/01_regression.yaml"


@pytest.mark.slow
@pytest.mark.timeout(300)  # 20 s on two idle cores
def test_selftest_packs_trains_resumes_and_exports(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--out", str(tmp_path / "toy")]) == 0, capfd.readouterr().err
    kit = tmp_path / "toy" / "kit"
    assert "at first" in capfd.readouterr().out
    assert (kit / "second" / "unet.onnx").exists()
    steps = [torch.load(kit / name / "kit.pt", weights_only=True)["progress"][1] for name in ("first", "second")]
    assert 0 < steps[0] < steps[1]


def test_parts_stay_under_the_limit_and_keep_every_file(tmp_path: Path) -> None:
    files = {f"f/{k}": bytes([k]) * 40_000 for k in range(9)}
    parts = write_parts(tmp_path, files, 150_000)
    assert len(parts) > 1
    assert all(part.stat().st_size <= 150_000 for part in parts)
    for part in parts:
        with tarfile.open(part) as tar:
            tar.extractall(tmp_path / "out", filter="data")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in files} == files


def test_faces_are_cut_out_small_with_their_points_in_place(tmp_path: Path) -> None:
    faces = portraits.write_folder(tmp_path / "faces", people=2, side=600)
    assert main(["pack", "--out", str(tmp_path / "kit"), "--recipe", RECIPE, "--faces", str(faces)]) == 0
    with tarfile.open(tmp_path / "kit" / "kit_1.tar") as tar:
        tar.extractall(tmp_path / "out", filter="data")
    before, after = read_index(faces)[0], read_index(tmp_path / "out" / "faces" / "0_faces")[0]
    assert after.height == pytest.approx(TALLEST, abs=1)
    assert after.person == before.person
    scale = after.height / before.height
    image, whole = read_image(after.path), read_image(before.path)
    eye, was = (np.rint(p.points[0]).astype(int) for p in (after, before))
    assert np.abs(image[eye[1], eye[0]].astype(int) - whole[was[1], was[0]].astype(int)).max() < 40
    assert np.ptp(after.points, 0) == pytest.approx(np.ptp(before.points, 0) * scale, abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to train on"),
        (["--faces", "{faces}", "--most-mb", "0.1"], "does not fit a part"),
        (["--faces", "{faces}", "--recipe", "configs/train/kit/enhancer.yaml"], "no such file of weights"),
    ],
)
def test_what_cannot_be_packed_is_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = portraits.write_folder(tmp_path / "faces", people=1)
    given = [word.format(faces=faces) for word in arguments]
    assert main(["pack", "--out", str(tmp_path / "kit"), "--recipe", RECIPE, *given]) == 2
    assert words in capsys.readouterr().err


def test_a_small_checkpoint_keeps_weights_and_each_channels_rate() -> None:
    network = torch.nn.Conv2d(8, 16, 3)
    adam = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(3):
        network(torch.rand(2, 8, 9, 9)).square().mean().backward()
        adam.step()
    state = {"generator": network.state_dict(), "optimisers": [adam.state_dict()], "progress": [1, 2]}
    again = grow(slim(state))
    assert torch.allclose(again["generator"]["weight"], network.weight, atol=1e-3)
    new = torch.optim.Adam(network.parameters(), 1e-3)
    new.load_state_dict(again["optimisers"][0])
    old, now = adam.state[network.weight], new.state[network.weight]
    assert now["step"] == old["step"]
    assert now["exp_avg_sq"].shape == old["exp_avg_sq"].shape
    assert torch.allclose(now["exp_avg_sq"].mean((1, 2, 3)), old["exp_avg_sq"].mean((1, 2, 3)), rtol=1e-2)


def test_the_rate_falls_to_a_hundredth_at_the_limit() -> None:
    assert Limit(until=0, fall=10).factor() == 0.01
    assert Limit(until=float("inf"), fall=10).factor() == 1
    assert Limit(until=0).factor() == 1
