import os

import pytest

from capstan.worker import machine


@pytest.mark.parametrize(
    ("cpuinfo", "bf16"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 fma\n", False),
        ("flags : avx2 avx512f avx512_vnni\n", False),
        ("flags : avx2 avx512f avx512_bf16\n", True),
        ("flags : avx512f amx_tile amx_bf16\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("", False),
    ],
)
def test_bfloat16_is_native_only_with_instructions_for_it(cpuinfo, bf16):
    assert bool(machine._cpu_flags(cpuinfo) & machine._BF16_FLAGS) is bf16


@pytest.mark.parametrize(
    ("version", "gpu", "device"),
    [("0.32.0", True, "cuda"), ("0.32.0", False, "cpu"), ("0.32.0+cpu", True, "cpu"), ("", True, "cpu")],
)
def test_a_gpu_counts_only_with_an_engine_built_for_it(version, gpu, device):
    assert machine._device(version, gpu=gpu) == device


@pytest.mark.parametrize(
    ("line", "limit"), [("max 100000", None), ("150000 100000\n", 1), ("50000 100000", 1), ("", None)]
)
def test_a_container_s_cpu_limit_counts_in_whole_cpus(line, limit):
    assert machine._cpu_limit(line) == limit


def test_this_machine_has_cores():
    assert 1 <= machine.inspect().cores <= (os.cpu_count() or 1)
