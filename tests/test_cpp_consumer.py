"""The C++ library, installed and used by another CMake project through find_package(bnpp)."""

import subprocess
from pathlib import Path

CONSUMER = Path(__file__).parent / "consumer"


def test_an_installed_library_serves_another_project(core_build, tmp_path):
    prefix, build = tmp_path / "prefix", tmp_path / "build"

    def run(*command):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("cmake", "--install", core_build, "--prefix", prefix)
    run("cmake", "-S", CONSUMER, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", build)
    printed = run(build / "consumer")
    assert printed.splitlines()[-1] == "0 wrong"
    assert "refused: batch_norm: y" in printed
    headers = "".join(p.read_text() for p in prefix.glob("include/bnpp/*.h"))
    for word in ("immintrin", "omp.h", "Python.h", "nanobind"):
        assert word not in headers, "the public headers need nothing but the standard library"
