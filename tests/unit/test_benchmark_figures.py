"""Result files of benchmarks name the machine."""

import pytest

from benchmarks.figures import described


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (
            "processor : 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx avx2 avx512f avx512_vnni\n",
            "AMD EPYC with AVX-512 VNNI",
        ),
        (
            "model name\t: AMD EPYC\nflags\t\t: fpu avx avx2\n\nmodel name\t: other\nflags\t\t: avx512f\n",
            "AMD EPYC with AVX2",
        ),
        ("processor\t: 0\nFeatures\t: fp asimd\n", "aarch64"),
    ],
)
def test_processor_is_named_with_its_widest_vectors(cpuinfo: str, expected: str) -> None:
    assert described(cpuinfo, "aarch64") == expected
