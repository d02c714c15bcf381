"""The detector's training: the start, the loss, the loop, resuming, the export. Real networks, tiny images."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("ultralytics")
pytest.importorskip("onnx")

import onnx
import torch

from stream_enhance.backends.card import Card, read_card
from stream_enhance.errors import ConfigError, InputError, ModelError
from tests.train.discs import SIDE, recipe, write_shard
from train.common.command import ExportDiffers, LossNotFinite
from train.common.journal import read_losses
from train.detector import export as detector_export
from train.detector import initial_weights as detector_start
from train.detector import trainer as detector_train
from train.detector.boxes import labels
from train.detector.data import batch as detector_batch
from train.detector.data.batch import Shards
from train.detector.data.make import save
from train.detector.loss import TaughtPoseLoss
from train.detector.recipe import load_recipe

CARD = Card(
    name="test",
    task="face-detection",
    size=SIDE,
    dynamic=True,
    points=5,
    license="AGPL-3.0-or-later",
    data="none",
    recipe="none",
    commit="none",
    weights_sha256="",
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("detector")
    write_shard(place / "cache")
    return place


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    model = detector_start.build("yolov8n-pose.yaml").eval()
    for module in model.modules():  # statistics that folding must carry
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    for branch in (*model.model[-1].cv2, *model.model[-1].cv3):  # no two alike: the exporter would merge them
        branch[-1].bias.data.normal_()
    return model


@pytest.fixture(scope="module")
def exported(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "face.onnx"
    images = np.random.default_rng(0).integers(0, 255, (2, SIDE, SIDE, 3), dtype=np.uint8)
    detector_export.export(network, path, CARD, images)
    return path


def test_a_folded_export_is_where_training_starts(network: torch.nn.Module, tmp_path: Path) -> None:
    images = torch.rand(4, 3, SIDE, SIDE)
    graph = detector_export.trace(detector_export.to_export(network), SIDE)
    onnx.save(graph, tmp_path / "folded.onnx")
    fresh = detector_start.build("yolov8n-pose.yaml")
    detector_start.load_folded(fresh, tmp_path / "folded.onnx", (0,), images)
    with torch.no_grad():
        wanted, got = network(images)[0], fresh.eval()(images)[0]
    assert torch.allclose(wanted, got, atol=2e-2)
    norm = fresh.model[0].bn
    assert torch.allclose(norm.weight, (norm.running_var + norm.eps).sqrt())


def test_a_start_of_another_size_is_refused(tmp_path: Path, exported: Path) -> None:
    other = detector_start.build("yolov8s-pose.yaml")
    with pytest.raises(ModelError, match="does not fit the network"):
        detector_start.load_folded(other, exported, (0,), torch.rand(1, 3, SIDE, SIDE))
    with pytest.raises(ModelError, match="no such file"):
        detector_start.load_folded(other, tmp_path / "none.onnx", (0,), torch.rand(1, 3, SIDE, SIDE))


def test_a_mirrored_batch_mirrors_images_faces_and_the_teacher(folder: Path) -> None:
    shards = Shards(folder / "cache", SIDE)
    chosen = np.array([0, 3])
    plain, mirror = (shards.batch(chosen, np.full(2, flip)) for flip in (False, True))
    assert torch.equal(plain["img"].flip(3), mirror["img"])
    assert torch.equal(plain["clean"], plain["img"].clamp(max=200 / 255))
    assert torch.equal(mirror["clean"], mirror["img"].clamp(max=200 / 255))
    assert plain["bboxes"].shape == (1, 4), "the second image's face is to be ignored"
    assert plain["partial"].shape == (1, 6)
    assert mirror["bboxes"][0, 0] == pytest.approx(1 - plain["bboxes"][0, 0].item())
    assert mirror["keypoints"][0, 0, 0] == pytest.approx(1 - plain["keypoints"][0, 1, 0].item())
    columns = SIDE // 8
    cells, back = plain["t_index"][1], mirror["t_index"][1]
    assert torch.equal(cells // columns, back // columns)
    assert torch.equal(columns - 1 - cells % columns, back % columns)
    again = shards.mirrored(
        {k: mirror[f"t_{k}"].numpy() for k in ("score", "box_score", "boxes", "kpts")} | {"cell": back.numpy()}
    )
    assert np.allclose(again["boxes"], plain["t_boxes"])
    assert np.allclose(again["kpts"][:, [0, 1]], plain["t_kpts"][:, [0, 1]], atol=1e-3)


def test_images_laid_side_by_side_keep_their_faces_and_the_teachers_cells(folder: Path) -> None:
    shards = Shards(folder / "cache", SIDE)
    chosen, flips = np.arange(4, 12), np.zeros(8, bool)
    plain, sheets = shards.batch(chosen, flips), shards.batch(chosen, flips, sheet=2)
    assert sheets["img"].shape == (2, 3, 2 * SIDE, 2 * SIDE)
    for number in range(8):
        whole, row, column = number // 4, number % 4 // 2, number % 2
        tile = sheets["img"][whole, :, row * SIDE :, column * SIDE :][:, :SIDE, :SIDE]
        assert torch.equal(tile, plain["img"][number])
        assert sheets["batch_idx"][number] == whole
        moved = (plain["bboxes"][number, :2] + torch.tensor([column, row])) / 2
        assert torch.allclose(sheets["bboxes"][number, :2], moved)
        eyes = (plain["keypoints"][number, :, :2] + torch.tensor([column, row])) / 2
        assert torch.allclose(sheets["keypoints"][number, :, :2], eyes)
        columns = SIDE // 8
        cell, there = int(plain["t_index"][1, number]), int(sheets["t_index"][1, number])
        assert there // (2 * columns) == cell // columns + row * columns
        assert there % (2 * columns) == cell % columns + column * columns
        assert sheets["t_index"][0, number] == whole
    coarse = detector_batch.tile_cells([(8, 8), (4, 4)], 2, 1, 1)
    assert coarse[64] == 256 + 4 * 8 + 4, "the second grid's first cell, in the sheet's last tile"


def test_the_teacher_raises_the_target_and_ignored_faces_do_not_count(folder: Path, network: torch.nn.Module) -> None:
    criterion = TaughtPoseLoss(network, 1.0, 1.0)
    target, logits = torch.zeros(1, 84, 1), torch.zeros(1, 84, 1)
    criterion.taught, criterion.weight = torch.zeros(1, 84, 1), torch.ones(1, 84, 1)
    plain = criterion.merged_bce(logits, target).sum()
    criterion.weight[0, :10] = 0
    assert criterion.merged_bce(logits, target).sum() == pytest.approx(plain.item() * 74 / 84)
    high = torch.full_like(logits, 6.0)
    assert criterion.merged_bce(high, target)[0, 20] > 5
    criterion.taught[0, 20] = 1.0
    assert criterion.merged_bce(high, target)[0, 20] < 0.01
    criterion.weight[0, 30], target[0, 30] = 0.5, 0.8
    half = torch.full_like(logits, float(np.log(0.4 / 0.6)))
    assert criterion.merged_bce(half, target)[0, 30] == pytest.approx(0.673, abs=0.001), "0.4 is what is wanted there"
    batch = Shards(folder / "cache", SIDE).batch(np.arange(4), np.zeros(4, bool))
    with torch.no_grad():
        total, parts = criterion.loss(network.train()(batch["img"]), batch)
    network.eval()
    assert total.shape == (6,)
    assert torch.isfinite(total).all()
    assert set(parts) == {"box_loss", "pose_loss", "kobj_loss", "cls_loss", "dfl_loss", "teacher"}


def test_a_run_trains_checkpoints_and_resumes(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder)
    last = detector_train.train(settings, tmp_path / "run")
    state = torch.load(last, weights_only=True)
    assert state["step"] == 4
    assert [step for step, _ in read_losses(tmp_path / "run" / "losses.csv")["cls_loss"]] == [2, 4]
    before = torch.load(last, weights_only=True)["average"]["model.0.conv.weight"]
    assert torch.isfinite(before).all()
    with pytest.raises(InputError, match="holds a run already"):
        detector_train.train(settings, tmp_path / "run")
    assert detector_train.train(settings, tmp_path / "run", resume=True) == last
    with pytest.raises(InputError, match=r"another recipe's \(learning_rate differ"):
        detector_train.train(recipe(folder, learning_rate=0.1), tmp_path / "run", resume=True)


def test_the_schedule_warms_up_then_falls_over_all_stages(folder: Path) -> None:
    steps = detector_train.schedule(recipe(folder, warmup=2))
    assert [step.stage.batch for step in steps] == [8, 8, 4, 4]
    rates = [step.rate for step in steps]
    cold = [step.rate for step in detector_train.schedule(recipe(folder, warmup=1))]
    assert rates[0] == pytest.approx(cold[0] / 2)
    assert rates[1:] == cold[1:] == sorted(cold[1:], reverse=True)
    assert rates[3] == pytest.approx(0.00001)


def test_a_run_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder, save_every=1)
    last = detector_train.train(settings, tmp_path / "run")
    state = torch.load(last, weights_only=True)
    torch.save(state | {"step": 3}, last)  # as if it had been stopped before the last step
    detector_train.train(settings, tmp_path / "run", resume=True)
    again = torch.load(last, weights_only=True)
    assert again["step"] == 4
    assert not torch.equal(again["model"]["model.22.cv4.0.2.bias"], state["model"]["model.22.cv4.0.2.bias"])
    assert [step for step, _ in read_losses(tmp_path / "run" / "losses.csv")["cls_loss"]] == [1, 2, 3, 4, 4]


def test_a_row_of_the_curves_is_the_mean_of_its_steps_however_few(folder: Path, tmp_path: Path) -> None:
    rows = []
    for every in (4, 3):
        detector_train.train(recipe(folder, save_every=every), tmp_path / str(every))
        rows.append([value for _, value in read_losses(tmp_path / str(every) / "losses.csv")["cls_loss"]])
    (whole,), (first, last) = rows
    assert whole == pytest.approx((3 * first + last) / 4, rel=0.01)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LossNotFinite, match=r"the loss is (nan|inf) at step 0; lower learning_rate"):
        detector_train.train(recipe(folder, gains={"box": float("inf"), "cls": 0.5, "dfl": 1.5}), tmp_path / "run")
    assert not (tmp_path / "run" / "last.pt").exists(), "no checkpoint with a broken network"


def test_no_images_no_checkpoint_and_a_bad_recipe_are_one_clear_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training images; run"):
        detector_train.train(recipe(folder, cache=tmp_path), tmp_path / "run")
    with pytest.raises(InputError, match="no checkpoint"):
        detector_train.train(recipe(folder), tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match="not whole sheets of 2 x 2"):
        recipe(folder, stages=[{"side": SIDE, "images": 8, "batch": 6, "sheet": 2}])
    (tmp_path / "bad.yaml").write_text("network: x\nlearning_rat: 1\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml: "):
        load_recipe(tmp_path / "bad.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_recipe(tmp_path)
    (tmp_path / "last.pt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match=r"last\.pt: not YAML: not text"):
        load_recipe(tmp_path / "last.pt")


def test_a_run_that_was_written_before_goes_on(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder, parts=[{"side": SIDE, "shards": 1, "face_px": [5, 18], "made": 0.5}])
    last = detector_train.train(settings, tmp_path / "run")
    tree = json.loads(settings.model_dump_json())
    tree["soft"], tree["miner"] = tree.pop("teacher_weight"), tree.pop("hard_negative_model")
    for stage in tree["stages"]:
        stage["pictures"] = stage.pop("images")
    tree["parts"][0]["round"] = 0.0
    del tree["card"]
    torch.save(torch.load(last, weights_only=True) | {"recipe": json.dumps(tree), "step": 3}, last)
    detector_train.train(settings, tmp_path / "run", resume=True)
    assert torch.load(last, weights_only=True)["step"] == 4


def test_the_recipe_in_the_repository_is_valid() -> None:
    for path in sorted((Path(__file__).parents[3] / "configs/train/detector").glob("*.yaml")):
        assert len(detector_train.schedule(load_recipe(path))) > 100


def test_the_export_says_what_it_is_and_takes_any_size(exported: Path, network: torch.nn.Module) -> None:
    import onnxruntime

    card = read_card(exported)
    assert (card.task, card.points, card.dynamic) == ("face-detection", 5, True)
    assert card.metrics["parity"]["pixels"] < 0.5
    assert json.loads(card.model_dump_json())["weights_sha256"] == card.weights_sha256
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).random((3, 3, 96, 160), np.float32)
    got = session.run(None, {"images": x})[0]
    assert got.shape == (3, 20, 12 * 20 + 6 * 10 + 3 * 5)
    with torch.no_grad():
        wanted = network(torch.from_numpy(x))[0].numpy()
    assert np.abs(wanted[:, 4] - got[:, 4]).max() < 0.01


def test_metrics_that_are_no_object_are_named(folder: Path, tmp_path: Path) -> None:
    last = detector_train.train(recipe(folder), tmp_path / "run")
    (tmp_path / "rows.json").write_text("[1]")
    with pytest.raises(InputError, match=r"rows\.json: holds a list, not an object"):
        detector_export.write_onnx(last, tmp_path / "net.onnx", None, tmp_path / "rows.json", SIDE)


def test_the_recipe_shifts_the_exported_scores(folder: Path, tmp_path: Path) -> None:
    import onnxruntime

    settings = recipe(folder, card={"data": "drawn discs", "weaknesses": "faces"})
    last = detector_train.train(settings, tmp_path / "run")
    images = [np.random.default_rng(n).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8) for n in range(4)]
    save(settings.cache / "made_eval.pickle", [(image, labels()) for image in images])
    logits = []
    for shift in (0.0, -1.5):
        path = tmp_path / f"shifted{shift}.onnx"
        shifted = settings.model_copy(update={"score_shift": shift})
        card = detector_export.write_onnx(last, path, shifted if shift else None, size=SIDE)
        assert (card.data, card.weaknesses) == ("drawn discs", "faces"), "the recipe's, not those of what ships"
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        score = session.run(None, {"images": np.full((1, 3, SIDE, SIDE), 0.5, np.float32)})[0][:, 4].astype(np.float64)
        logits.append(np.log(score / (1 - score)))
    assert np.allclose(logits[1] - logits[0], -1.5, atol=0.02)


def test_an_export_that_differs_from_torch_is_not_written(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector_export, "PIXELS", -1.0)
    with pytest.raises(ExportDiffers, match="ONNX and torch differ"):
        detector_export.export(network, tmp_path / "face.onnx", CARD, np.zeros((1, SIDE, SIDE, 3), np.uint8))
    assert not (tmp_path / "face.onnx").exists()


def test_a_batch_without_faces_is_learnt_from_too(tmp_path: Path, network: torch.nn.Module) -> None:
    write_shard(tmp_path)
    path = tmp_path / str(SIDE) / "000.npz"
    with np.load(path) as held:
        nobody = {key: value if key == "made" else value[:0] for key, value in held.items()}
    np.savez(path, **nobody)
    batch = Shards(tmp_path, SIDE).batch(np.arange(4), np.zeros(4, bool))
    assert batch["bboxes"].shape == (0, 4)
    total, parts = TaughtPoseLoss(network, 1.0, 1.0).loss(network.train()(batch["img"]), batch)
    network.eval()
    assert torch.isfinite(total).all()
    assert parts["cls_loss"] > 0
    assert parts["box_loss"] == parts["teacher"] == 0
