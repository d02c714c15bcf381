"""A line runs while its network is compiled, and no batch is lost when the compiled one takes over."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from stream_enhance.backends import compiled, onnx, open_session, providers
from stream_enhance.backends.compiled import SwappingSession, compile_apart
from stream_enhance.backends.onnx import OnnxSession, open_meanwhile
from stream_enhance.errors import ModelError
from tests.backends.test_providers import FalseOrt, FalseSession
from tests.conftest import Models

BATCH = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
TASK = "face-enhancement"


@pytest.fixture(autouse=True)
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT's library and the driver are not there either."""
    monkeypatch.setattr(providers, "tensorrt_missing", lambda: "")
    monkeypatch.setattr(providers, "driver_missing", lambda: "")


def on_cpu(models: Models) -> OnnxSession:
    return OnnxSession(models.enhancer, TASK, "cpu", 1, None)


def meanwhile(models: Models, folder: Path, ort: FalseOrt, provider: str = "auto") -> SwappingSession | None:
    session = open_meanwhile(models.enhancer, TASK, provider, 1, folder, 0, 0, ort)
    assert session is None or isinstance(session, SwappingSession)
    return session


def test_no_batch_is_lost_while_the_sessions_are_exchanged(models: Models) -> None:
    first, second, may_build = on_cpu(models), on_cpu(models), threading.Event()
    wanted = first(BATCH)

    def build(closed: threading.Event) -> OnnxSession:
        may_build.wait(30)
        return second

    session, results = SwappingSession(first, build, "tensorrt", required=True), []

    def call() -> None:
        for number in range(40):
            if number == 10:
                may_build.set()
            results.append(session(BATCH))

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    session._thread.join(60)
    assert len(results) == 120
    assert all(np.array_equal(result, wanted) for result in results)
    assert session._session is second
    assert not hasattr(first, "_session"), "it is closed after its last batch"
    with session:
        assert np.array_equal(session(BATCH), wanted)
    assert not hasattr(second, "_session")


def test_it_runs_on_the_next_best_provider_until_the_best_has_compiled(
    models: Models, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = meanwhile(models, tmp_path, FalseOrt("tensorrt", "cuda"))
    assert session is not None
    assert session.provider == "cuda, then tensorrt"
    assert "not compiled yet; compiling it for tensorrt while cuda runs" in caplog.text
    with session:
        session._thread.join(60)
        assert isinstance(session._session, OnnxSession)
        assert session._session.provider == "tensorrt"
        with on_cpu(models) as cpu:
            assert np.allclose(session(BATCH), cpu(BATCH))
    assert meanwhile(models, tmp_path, FalseOrt("tensorrt", "cuda")) is None, "it is compiled now"


def test_what_was_compiled_for_another_driver_is_compiled_again(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiled, "_card_and_driver", lambda device: ("sm86", "580.1"))
    OnnxSession(models.enhancer, TASK, "tensorrt", 1, tmp_path, ort=FalseOrt("tensorrt"))
    assert meanwhile(models, tmp_path, FalseOrt("tensorrt")) is None
    monkeypatch.setattr(compiled, "_card_and_driver", lambda device: ("sm86", "581.9"))
    session = meanwhile(models, tmp_path, FalseOrt("tensorrt"))
    assert session is not None
    session.__exit__(None, None, None)
    assert "built for driver 580.1, not 581.9; compiling it for tensorrt while cpu runs" in caplog.text
    (note,) = tmp_path.glob("*/tensorrt.json")
    note.write_text("{")
    with OnnxSession(models.enhancer, TASK, "cpu", 1, tmp_path) as cpu:
        assert cpu.waits_for("tensorrt") == "the note of what it was compiled for is damaged"


def test_a_run_that_is_to_be_repeated_waits_for_its_provider(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "_onnxruntime", lambda: FalseOrt("tensorrt"))
    with open_session(models.enhancer, TASK, "auto", 1, tmp_path, precision="auto", meanwhile=True) as session:
        assert isinstance(session, SwappingSession)
    with open_session(models.enhancer, TASK, "auto", 1, tmp_path, precision="fp32", meanwhile=True) as session:
        assert session.provider == "tensorrt"


@pytest.mark.parametrize("provider", ["auto", "tensorrt"])
def test_a_build_that_fails_ends_the_line_only_where_the_provider_was_named(
    models: Models, tmp_path: Path, provider: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(session: FalseSession) -> None:
        if session.get_providers()[0] == providers.PROVIDERS["tensorrt"]:
            raise RuntimeError("no kernel image is available")

    session = meanwhile(models, tmp_path, FalseOrt("tensorrt", "cuda", damage=broken), provider)
    assert session is not None
    with session:
        session._thread.join(60)
        if provider == "auto":
            assert session(BATCH).shape == BATCH.shape
            assert "goes on without tensorrt (provider 'tensorrt' is not available: no kernel image" in caplog.text
        else:
            with pytest.raises(ModelError, match="no kernel image is available"):
                session(BATCH)


def test_compiling_apart_says_in_one_line_what_is_wrong_and_ends_when_it_is_closed(
    models: Models, tmp_path: Path
) -> None:
    compile_apart(models.enhancer, TASK, "cpu", None, 0, threading.Event())
    with pytest.raises(ModelError, match=r"none\.onnx: no such model file") as raised:
        compile_apart(tmp_path / "none.onnx", TASK, "tensorrt", tmp_path, 0, threading.Event())
    assert "\n" not in str(raised.value)
    closed = threading.Event()
    closed.set()
    with pytest.raises(ModelError, match="closed before it was compiled"):
        compile_apart(tmp_path / "none.onnx", TASK, "tensorrt", None, 0, closed)
