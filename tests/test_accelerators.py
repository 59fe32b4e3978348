"""Pretends machines by patching torch's answers, so that no test needs a device."""

import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.accelerators import AcceleratorRegistry

from dlintro import accelerators
from dlintro.accelerators import Device, resolve, resolve_precision, wrong_name
from dlintro.errors import UsageError

GIB = 2**30
CPU = Device("cpu", 0, "a processor, 2 cores")
GPU = Device("cuda", 0, "a GPU, 16 GiB")
PYPI_BUILD = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]  # machine code only, as PyPI's 2.14.1 is built


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch):
    """Pretend that there is no GPU of any kind, and that PyTorch is the CUDA build."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(accelerators, "_nvidia_device_present", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def pretend_cuda(monkeypatch):
    def pretend(*capabilities, free=None, architectures=PYPI_BUILD):
        def properties(index):
            return SimpleNamespace(name=f"GPU number {index}", total_memory=16 * GIB)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capabilities[index])
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(architectures))
        monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU number {index}")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free[index], 16 * GIB))

    return pretend


@pytest.fixture
def pretend_mps(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "get_name", lambda: "Apple M9")
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 21 * GIB)


def refusal(*arguments):
    with pytest.raises(UsageError) as error:
        resolve(*arguments)
    message = str(error.value)
    assert "\n" not in message
    assert "type accelerator" in message
    return message


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "mps"])
def test_our_own_names_are_not_wrong(name):
    assert wrong_name(name) is None


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("gpu", "type accelerator=cuda (NVIDIA, AMD) or accelerator=mps (Apple)"),
        ("rocm", "type accelerator=cuda, the name in PyTorch's ROCm build too"),
        ("xpu", "training on Intel GPUs is not supported yet (scripts/devices lists them); type accelerator=cpu"),
        ("ipex", "ended with version 2.8 and is now part of PyTorch; type accelerator=cpu"),
        ("tpu", "dlintro does not support torch_xla; type accelerator=auto"),
        ("opencl", "PyTorch has no OpenCL backend; type accelerator=auto"),
        ("CUDA", "type accelerator=cuda"),
        ("cuda:1", "type accelerator=cuda accelerator.index=1"),
        ("abacus", "there is no such accelerator; type accelerator=auto"),
    ],
)
def test_a_wrong_name_is_answered_with_what_to_type(name, answer):
    assert wrong_name(name).startswith(f"accelerator={name}: ")
    assert answer in wrong_name(name)
    assert refusal(name) == wrong_name(name)


def test_wrong_names_are_told_without_importing_torch():
    code = "import sys, dlintro.accelerators as a; assert a.wrong_name('gpu'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_auto_is_the_cpu_on_a_bare_machine_and_says_nothing(caplog):
    device = resolve("auto")
    assert (device.kind, device.index) == ("cpu", 0)
    assert device == resolve("cpu") == resolve("cpu", 0)
    assert "core" in device.description
    assert not caplog.records


def test_auto_prefers_cuda_and_says_nothing(pretend_cuda, caplog):
    pretend_cuda((9, 0))
    assert resolve("auto") == resolve("cuda") == Device("cuda", 0, "GPU number 0, 16 GiB")
    assert not caplog.records


def test_auto_is_mps_on_a_mac(pretend_mps):
    assert resolve("auto") == resolve("mps", 0) == Device("mps", 0, "Apple M9, 21 GiB")


def test_of_several_devices_auto_takes_the_one_with_the_most_free_memory(pretend_cuda):
    pretend_cuda((9, 0), (9, 0), (9, 0), free=[2 * GIB, 15 * GIB, 9 * GIB])
    assert resolve("cuda").index == 1
    assert resolve("cuda", 2).index == 2


def test_a_device_that_another_process_holds_is_not_chosen(pretend_cuda, monkeypatch):
    pretend_cuda((9, 0), (9, 0))

    def mem_get_info(index):
        if index == 0:
            raise RuntimeError("CUDA-capable device(s) is/are busy or unavailable")
        return (GIB, 16 * GIB)

    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    assert resolve("auto").index == 1


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_an_accelerator_that_is_not_there_is_refused_in_one_line(name):
    message = refusal(name)
    assert message.startswith(f"accelerator={name} isn't available")
    assert "available: cpu (" in message
    assert message.endswith("type accelerator=cpu")


def test_asking_for_mps_beside_cuda_says_to_type_cuda(pretend_cuda):
    pretend_cuda((9, 0))
    message = refusal("mps")
    assert "available: cuda (GPU number 0, 16 GiB), cpu (" in message
    assert message.endswith("type accelerator=cuda")


@pytest.mark.parametrize("index", [2, -1, True, "first", 0.0])
def test_a_bad_index_is_refused_in_one_line(pretend_cuda, index):
    pretend_cuda((9, 0), (9, 0), free=[GIB, GIB])
    message = refusal("cuda", index)
    assert message.startswith(f"accelerator.index={index}: there is no cuda device with this number")
    assert "available: 0 (GPU number 0, 16 GiB), 1 (GPU number 1, 16 GiB)" in message
    assert message.endswith("type accelerator.index=0 or auto")


def test_the_cpu_has_only_index_0():
    assert "no cpu device with this number" in refusal("cpu", 1)


def test_a_device_newer_than_the_build_is_a_warning_under_auto_and_refused_by_name(pretend_cuda, caplog):
    pretend_cuda((13, 0))
    why = "GPU number 0) has compute capability 13.0, but PyTorch"
    assert resolve("auto").kind == "cpu"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.records[0].name == "dlintro.accelerators"
    assert why in caplog.text
    assert "sm_120 only" in caplog.text
    assert why in refusal("cuda")


def test_beside_an_unusable_device_the_usable_one_is_taken(pretend_cuda, caplog):
    pretend_cuda((5, 0), (9, 0))
    assert resolve("auto").index == 1
    assert "compute capability 5.0" in caplog.text
    assert "compute capability 5.0" in refusal("cuda", 0)


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((9, 0), ["sm_90"], True),
        ((8, 9), ["sm_86"], True),  # same major version, newer minor
        ((8, 0), ["sm_86"], False),
        ((10, 0), ["sm_90"], False),
        ((13, 0), ["sm_90", "compute_120"], True),  # translated by the driver
        ((8, 6), ["compute_90"], False),
        ((10, 3), ["sm_100a"], False),  # for that one chip
        ((10, 3), ["sm_100f"], True),  # for its family
        ((12, 1), ["sm_120"], True),
        ((9, 0), [], False),
    ],
)
def test_a_build_has_code_for_a_capability_or_not(pretend_cuda, capability, architectures, runs):
    pretend_cuda(capability, architectures=architectures)
    assert (accelerators.missing_kernels(0) is None) == runs


def test_an_amd_device_is_taken_at_pytorchs_word(pretend_cuda, monkeypatch):
    pretend_cuda((9, 4), architectures=["gfx942"])
    monkeypatch.setattr(torch.version, "hip", "7.1")
    assert resolve("auto").kind == "cuda"


def test_a_cpu_only_build_beside_an_nvidia_device_is_a_loud_warning(monkeypatch, caplog):
    monkeypatch.setattr(accelerators, "_nvidia_device_present", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert resolve("auto").kind == "cpu"
    assert "is a CPU-only build: reinstall with DLINTRO_TORCH=cuda" in caplog.text
    assert "reinstall with DLINTRO_TORCH=cuda" in refusal("cuda")
    caplog.clear()
    assert resolve("cpu").kind == "cpu"  # the user named it, so there is no warning
    assert not caplog.records


def test_an_old_driver_is_told_in_pytorchs_words(monkeypatch, caplog):
    def init():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12020). Please update\nit.")

    monkeypatch.setattr(accelerators, "_nvidia_device_present", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", init)
    assert resolve("auto").kind == "cpu"
    assert caplog.messages[0].endswith("The NVIDIA driver on your system is too old (found version 12020)")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "(CUDA_VISIBLE_DEVICES='' may hide it)" in refusal("cuda")


def test_an_intel_gpu_is_a_warning_under_auto(monkeypatch, caplog):
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    assert resolve("auto").kind == "cpu"
    assert "this machine's Intel GPU (xpu)" in caplog.text


@pytest.mark.parametrize(
    ("script", "present"),
    [("echo 'GPU 0: NVIDIA H200'", True), ("echo 'No devices were found'", False), ("exit 9", False)],
)
def test_nvidia_smi_tells_of_a_device_that_torch_does_not_see(monkeypatch, tmp_path, script, present):
    monkeypatch.undo()  # asks the real machine
    if accelerators._nvidia_device_present():
        pytest.skip("this machine has an NVIDIA device")
    nvidia_smi = tmp_path / "nvidia-smi"
    nvidia_smi.write_text(f"#!/bin/sh\n{script}\n")
    nvidia_smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert accelerators._nvidia_device_present() == present


@pytest.mark.parametrize(
    ("flag", "precision"),
    [("avx2", "32-true"), ("avx512_bf16", "bf16-mixed"), ("amx_bf16", "bf16-mixed"), ("bf16", "bf16-mixed")],
)
def test_auto_precision_on_the_cpu_follows_its_instructions(monkeypatch, flag, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, flag: True})
    assert resolve_precision("auto", CPU) == precision


@pytest.mark.parametrize(("more", "precision"), [({}, "32-true"), ({"amx_bf16": True}, "bf16-mixed")])
def test_auto_precision_on_intels_cpus_asks_for_amx(monkeypatch, more, precision):
    found = {"cpu_name": "Intel Xeon", "avx512_bf16": True} | more
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert resolve_precision("auto", CPU) == precision


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "32-true"), ((8, 0), "bf16-mixed")])
def test_auto_precision_on_cuda_is_bf16_from_capability_8_on(pretend_cuda, capability, precision):
    pretend_cuda(capability)
    assert resolve_precision("auto", GPU) == precision


def test_auto_precision_on_mps_is_float32(pretend_mps):
    assert resolve_precision("auto", resolve("mps")) == "32-true"


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_precision_given_by_name_stays(precision):
    assert resolve_precision(precision, GPU) == precision
    if precision != "16-mixed":
        assert resolve_precision(precision, CPU) == precision


def test_float16_on_the_cpu_is_refused():
    with pytest.raises(UsageError, match=r"trainer\.precision=16-mixed needs a GPU.* type trainer\.precision=bf16"):
        resolve_precision("16-mixed", CPU)


def test_an_unknown_precision_is_refused():
    with pytest.raises(UsageError, match=r"trainer\.precision=fp8 is not allowed: use auto, 32-true"):
        resolve_precision("fp8", GPU)


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
def test_a_kind_is_a_word_of_torch_and_of_lightning(kind):
    assert torch.device(kind).type == kind
    assert kind in AcceleratorRegistry.available_accelerators()
