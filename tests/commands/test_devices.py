import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from dlintro.commands import devices
from dlintro.commands.devices import Listed, main

COMMAND = [sys.executable, "-m", "dlintro.commands.devices"]
GPU = Listed(
    device="cuda:0",
    name="AMD [navi 31]",  # rich would take the brackets for markup
    units={"multiprocessors": 96},
    memory_bytes=24 * 2**30,
    free_bytes=20 * 2**30,
    backend="ROCm (HIP 7.1.25424)",
    capability="gfx1100",
    bf16_native=True,
)


def float32_gflops_of_a_plain_loop(size=1024, num_products=5):
    a_NN, b_NN = torch.randn(size, size), torch.randn(size, size)
    a_NN @ b_NN
    start = time.perf_counter()
    for _ in range(num_products):
        a_NN @ b_NN
    return 2 * size**3 * num_products / (time.perf_counter() - start) / 1e9


def test_the_command_measures_this_machine_in_under_20_seconds():
    start = time.monotonic()
    output = subprocess.run([*COMMAND, "--json"], check=True, capture_output=True, text=True).stdout
    assert time.monotonic() - start < 20
    report = json.loads(output)
    cpu = report["devices"][0]
    assert report["host"]["torch"] == torch.__version__
    assert (cpu["device"], cpu["trouble"]) == ("cpu", None)
    assert cpu["units"]["threads"] >= 1
    assert 0 < cpu["free_bytes"] < cpu["memory_bytes"]
    assert cpu["bf16_gflops"] > 0.01
    assert 0.1 < cpu["copy_gb_per_s"] < 2000
    assert cpu["float32_gflops"] > 0.1
    assert report["auto"]["kind"] in ("cpu", "cuda", "mps")
    assert report["auto"]["precision"] in ("32-true", "bf16-mixed")


def test_the_matrix_figure_is_that_of_a_plain_loop():
    """Within a factor of 4, which catches a wrong unit or count; three tries, as other processes take their share."""

    def ratio():
        return devices.matrix_gflops(torch.device("cpu"), torch.float32) / float32_gflops_of_a_plain_loop()

    assert any(1 / 4 < ratio() < 4 for _ in range(3))


def test_help_is_quick_because_it_does_not_import_torch():
    code = (
        "import sys, dlintro.commands.devices as d\ntry: d.main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    )
    assert "--json" in subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("arguments", [["--hlep"], ["cuda"], ["--json=yes"]])
def test_wrong_arguments_exit_with_2(arguments, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("dlintro: ") and said.count("\n") == 1


@pytest.fixture
def pretend_figures(monkeypatch):
    monkeypatch.setattr(
        devices, "matrix_gflops", lambda device, dtype: 790123.4 if dtype is torch.bfloat16 else 51234.5
    )
    monkeypatch.setattr(devices, "copy_gb_per_s", lambda device, free_bytes: 55.54)


def test_the_table_fits_80_columns_and_ends_with_what_auto_means(monkeypatch, capsys, pretend_figures):
    troubled = Listed(**{**vars(GPU), "device": "cuda:1", "trouble": "no code for this device " * 5})
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(devices, "list_devices", lambda: [GPU, troubled])
    assert main([]) == 0
    output = capsys.readouterr().out
    lines = output.splitlines()
    assert max(map(len, lines)) <= 80
    for words in (
        "AMD [navi 31]",
        "96 multiprocessors",
        "24.0 GiB, 20.0 free",
        "ROCm (HIP 7.1.25424)",
        "gfx1100; bf16 native",
        "51,234",
        "790,123",
        "55.5",
        "no code for this device",
        "Python 3.",
        f"torch {torch.__version__}",
    ):
        assert words in output
    assert lines[-1].startswith("auto means: accelerator=")
    assert "trainer.precision=" in lines[-1]


@pytest.mark.parametrize(("load", "busy"), [(0.0, False), (1000.0, True)])
def test_a_busy_machine_is_told_because_its_figures_are_too_low(monkeypatch, capsys, pretend_figures, load, busy):
    monkeypatch.setattr(devices.os, "getloadavg", lambda: (load, load, load))
    assert main([]) == 0
    assert ("Other programs are running" in capsys.readouterr().out) == busy


def test_a_device_without_code_for_it_is_listed_and_not_measured(pretend_figures):
    listed = devices._measure(Listed(**{**vars(GPU), "trouble": "too new"}), deadline=time.monotonic() + 9)
    assert listed.float32_gflops is None


def test_a_figure_that_fails_is_told_and_the_others_stand(monkeypatch, pretend_figures):
    def fail(device, free_bytes):
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore words")

    monkeypatch.setattr(devices, "copy_gb_per_s", fail)
    listed = devices._measure(GPU, deadline=time.monotonic() + 9)
    assert listed.bf16_gflops == 790123.4
    assert listed.trouble == "copy_gb_per_s: CUDA out of memory."


def test_when_the_time_is_up_the_rest_is_not_measured(pretend_figures):
    listed = devices._measure(GPU, deadline=time.monotonic() - 1)
    assert listed.float32_gflops is None
    assert "there was no time" in listed.trouble


def test_slow_arithmetic_is_measured_on_small_matrices(monkeypatch):
    """As bf16 is on a CPU that emulates it: a larger size would take minutes."""
    sizes = []

    def slow_product(size, device, dtype):
        sizes.append(size)
        return lambda: time.sleep(0.06)

    monkeypatch.setattr(devices, "_product", slow_product)
    gflops = devices.matrix_gflops(torch.device("cpu"), torch.bfloat16)
    assert sizes == [256]
    assert gflops == pytest.approx(2 * 256**3 / 0.06 / 1e9, rel=0.3)


@pytest.fixture
def pretend_cuda(monkeypatch):
    properties = SimpleNamespace(
        name="Some GPU", major=9, minor=0, multi_processor_count=132, total_memory=2**37, gcnArchName="gfx942:xnack-"
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_90"])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (2**36, 2**37))
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92401)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.version, "hip", None)


def test_a_cuda_device_is_listed_with_its_backends(pretend_cuda):
    cuda = list(devices.list_devices())[1]
    assert (cuda.device, cuda.name, cuda.units) == ("cuda:0", "Some GPU", {"multiprocessors": 132})
    assert (cuda.memory_bytes, cuda.free_bytes) == (2**37, 2**36)
    assert cuda.backend == "CUDA 13.0, cuDNN 9.24.1"
    assert cuda.capability == "compute capability 9.0"
    assert cuda.bf16_native is True


def test_rocm_is_called_rocm(pretend_cuda, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "7.1.25424")
    monkeypatch.setattr(devices, "has_native_bf16", lambda kind, index: True)
    rocm = list(devices.list_devices())[1]
    assert (rocm.device, rocm.backend, rocm.capability) == ("cuda:0", "ROCm (HIP 7.1.25424)", "gfx942")


def test_an_apple_gpu_is_listed(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "get_name", lambda: "Apple M9")
    monkeypatch.setattr(torch.backends.mps, "get_core_count", lambda: 10)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 2**34)
    mps = list(devices.list_devices())[-1]
    assert (mps.device, mps.name, mps.units) == ("mps:0", "Apple M9", {"GPU cores": 10})


def test_an_intel_gpu_is_listed_though_it_cannot_train_yet(monkeypatch):
    properties = SimpleNamespace(
        name="Intel Arc", gpu_eu_count=512, total_memory=2**34, driver_version="1.6", has_bfloat16_conversions=True
    )

    def no_answer(index):
        raise RuntimeError("The device doesn't support querying the available free memory")

    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 1)
    monkeypatch.setattr(torch.xpu, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.xpu, "mem_get_info", no_answer)
    xpu = list(devices.list_devices())[-1]
    assert (xpu.device, xpu.name, xpu.free_bytes) == ("xpu:0", "Intel Arc", None)
    assert "isn't supported yet" in xpu.capability


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA or AMD device")
def test_a_real_gpu_is_measured_faster_than_this_cpu(capsys):
    assert main(["--json"]) == 0
    cpu, gpu = json.loads(capsys.readouterr().out)["devices"][:2]
    assert gpu["trouble"] is None
    assert gpu["float32_gflops"] > cpu["float32_gflops"]
    assert gpu["copy_gb_per_s"] > 0.1
