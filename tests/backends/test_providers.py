"""Providers of a GPU that is not there: an onnxruntime with false devices, whose sessions run on the CPU."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from stream_enhance.backends import providers
from stream_enhance.backends.onnx import OnnxSession
from stream_enhance.errors import ModelError
from tests.conftest import Models

RTX = providers.PROVIDERS["tensorrt-rtx"]


class FalseSession:
    """A session on the CPU that says it runs on ``names``."""

    def __init__(self, path: str, options: Any, names: list[str], damage: Callable[[Any], Any]) -> None:
        self._inner = onnxruntime.InferenceSession(path, options.real, providers=["CPUExecutionProvider"])
        self._names, self._damage = names, damage
        self.rows: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def get_providers(self) -> list[str]:
        return self._names

    def run_with_iobinding(self, binding: Any) -> None:
        self._damage(self)
        self._inner.run_with_iobinding(binding)


class FalseOrt:
    """onnxruntime with GPUs: ``offered`` compiled in, and ``devices`` that a plugin finds once it is registered."""

    def __init__(self, *offered: str, devices: int = 0, damage: Callable[[Any], Any] = lambda session: None) -> None:
        self._offered, self._devices, self._damage = offered, devices, damage
        self.registered: list[tuple[str, str]] = []
        self.sessions: list[FalseSession] = []
        self.options: list[Any] = []
        self.preloaded = 0

    def get_available_providers(self) -> list[str]:
        return [*(providers.PROVIDERS[name] for name in self._offered), "CPUExecutionProvider"]

    def register_execution_provider_library(self, name: str, path: str) -> None:
        self.registered.append((name, path))

    def get_ep_devices(self) -> list[Any]:
        return [SimpleNamespace(ep_name=RTX) for _ in range(self._devices)] if self.registered else []

    def preload_dlls(self) -> None:
        self.preloaded += 1

    def disable_telemetry_events(self) -> None:
        """Nothing is gathered here."""

    def SessionOptions(self) -> Any:
        options = SimpleNamespace(real=onnxruntime.SessionOptions(), added=[])
        options.add_session_config_entry = options.real.add_session_config_entry
        options.add_provider_for_devices = lambda devices, settings: options.added.append((devices, settings))
        self.options.append(options)
        return options

    def InferenceSession(self, path: str, options: Any, providers: Any, enable_fallback: int) -> Any:
        assert not enable_fallback, "its own fallback prints on standard output"
        names = [p if isinstance(p, str) else p[0] for p in providers or [RTX]]
        session = FalseSession(path, options, names, self._damage)
        session.given = providers  # type: ignore[attr-defined]
        self.sessions.append(session)
        return session


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(get_library_path=lambda: "/plugin.so")
    monkeypatch.setattr(importlib, "import_module", lambda name: module)


def opened(models: Models, ort: FalseOrt, provider: str, tmp_path: Path, device: int = 0) -> OnnxSession:
    return OnnxSession(models.enhancer, "face-enhancement", provider, 1, tmp_path, device, ort)


def test_the_plugin_is_registered_and_given_its_device(models: Models, tmp_path: Path, plugin: None) -> None:
    ort = FalseOrt(devices=2)
    session = opened(models, ort, "tensorrt-rtx", tmp_path, device=1)
    assert session.provider == "tensorrt-rtx"
    assert ort.registered == [(RTX, "/plugin.so")]
    devices, settings = ort.options[-1].added[0]
    assert len(devices) == 1
    assert settings["nv_profile_max_shapes"].endswith("16x3x64x64")
    assert Path(settings["nv_runtime_cache_path"]).is_dir()


def test_a_plugin_without_a_card_is_named_with_its_cure(models: Models, tmp_path: Path, plugin: None) -> None:
    with pytest.raises(
        ModelError, match=r"is not available on this machine: its plugin finds no RTX card; pip install '\.\[rtx\]'"
    ):
        opened(models, FalseOrt(), "tensorrt-rtx", tmp_path)
    with pytest.raises(ModelError, match="there is no device 3"):
        opened(models, FalseOrt(devices=1), "tensorrt-rtx", tmp_path, device=3)


def test_tensorrt_has_profiles_limits_and_cuda_behind_it(models: Models, tmp_path: Path) -> None:
    ort = FalseOrt("tensorrt", "cuda")
    opened(models, ort, "tensorrt", tmp_path)
    (name, settings), (behind, cuda) = ort.sessions[-1].given
    assert (name, behind) == (providers.PROVIDERS["tensorrt"], providers.PROVIDERS["cuda"])
    assert settings["trt_profile_min_shapes"].endswith(":1x3x64x64")
    assert settings["device_id"] == cuda["device_id"] == "0"
    assert ort.preloaded, "CUDA's and cuDNN's libraries lie in wheels of their own"


def test_auto_takes_the_best_that_runs_one_batch_right(models: Models, tmp_path: Path) -> None:
    def broken(session: FalseSession) -> None:
        if session.get_providers()[0] == providers.PROVIDERS["tensorrt"]:
            raise RuntimeError("an engine of another driver")

    session = opened(models, FalseOrt("tensorrt", "cuda", damage=broken), "auto", tmp_path)
    assert session.provider == "cuda"
    with pytest.raises(ModelError, match="'tensorrt' is not available: an engine of another driver"):
        opened(models, FalseOrt("tensorrt", damage=broken), "tensorrt", tmp_path)


def test_auto_on_a_broken_gpu_is_the_cpu_and_says_so(
    models: Models, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(session: FalseSession) -> None:
        raise RuntimeError("no kernel image is available")

    session = opened(models, FalseOrt("cuda", damage=broken), "auto", tmp_path)
    assert session.provider == "cpu"
    assert "does not run on cuda (no kernel image is available)" in caplog.text
    assert session(np.zeros((2, 3, 64, 64), np.float32)).shape == (2, 3, 64, 64)


def test_batches_are_padded_to_the_shapes_that_graphs_are_made_for(models: Models, tmp_path: Path) -> None:
    rows: list[int] = []
    session = opened(models, FalseOrt("cuda"), "cuda", tmp_path)
    run = session._run
    session._run = lambda batch: (rows.append(len(batch)), run(batch))[1]  # type: ignore[method-assign,func-returns-value]
    batch = np.random.default_rng(0).random((19, 3, 64, 64), dtype=np.float32)
    result = session(batch)
    with OnnxSession(models.enhancer, "face-enhancement", "cpu", 1, None) as cpu:
        assert np.allclose(result, cpu(batch))
    assert rows == [16, 4]


def test_out_of_memory_halves_the_batch_and_goes_on(
    models: Models, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = opened(models, FalseOrt("cuda"), "cuda", tmp_path)
    run = session._run

    def small(batch: Any) -> Any:
        if len(batch) > 4:
            raise RuntimeError("CUDA failure 2: out of memory")
        return run(batch)

    session._run = small  # type: ignore[method-assign]
    batch = np.random.default_rng(0).random((11, 3, 64, 64), dtype=np.float32)
    assert session(batch).shape == batch.shape
    assert "the GPU's memory does not hold 16 faces; 8 at once" in caplog.text
    caplog.clear()
    assert session(batch).shape == batch.shape
    assert not caplog.text, "it is known now"


def test_two_flavours_in_one_folder_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def named(name: str) -> Any:
        return SimpleNamespace(metadata={"Name": name})

    found = [named("numpy"), named("onnxruntime"), named("onnxruntime-gpu")]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)
    assert providers.flavours() == ["onnxruntime", "onnxruntime-gpu"]


def test_a_cache_that_cannot_be_written_is_named_with_its_cure(models: Models, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match=r"compiled engines cannot be kept there .* set engine_cache"):
        opened(models, FalseOrt("cuda"), "cuda", tmp_path / "file")


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_the_frames_stream_is_handed_to_the_provider(models: Models, tmp_path: Path, provider: str) -> None:
    ort = FalseOrt("tensorrt", "cuda")
    OnnxSession(models.enhancer, "face-enhancement", provider, 1, tmp_path, ort=ort, stream=4711)
    assert {settings["user_compute_stream"] for _, settings in ort.sessions[-1].given} == {"4711"}
