"""The peak of a training step's memory beyond its inputs, in tensors: one process a library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.python.tables import render

#: What is run; the parts before and after the line of dashes are setting up and what is measured.
STEPS = {
    "bnpp": """
import bnpp
-----
y, saved = bnpp.batch_norm(x, gamma, beta)
grads = bnpp.batch_norm_backward(dy, saved)
""",
    "bnpp, relu and residual": """
import bnpp
-----
y, saved = bnpp.batch_norm(x, gamma, beta, residual=dy, activation="relu")
grads = bnpp.batch_norm_backward(dy, saved)
""",
    "bnpp, out=x, keep='output'": """
import bnpp
-----
y, saved = bnpp.batch_norm(x, gamma, beta, keep="output", out=x)
grads = bnpp.batch_norm_backward(dy, saved, out=dy)
""",
    "torch": """
import torch
x, dy, gamma, beta = map(torch.from_numpy, (x, dy, gamma, beta))
for leaf in x, gamma, beta: leaf.requires_grad_()
batch_norm = lambda: torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True)
-----
y = batch_norm()
grads = torch.autograd.grad(y, (x, gamma, beta), dy)
""",
    "torch, relu and residual": """
import torch
x, dy, gamma, beta = map(torch.from_numpy, (x, dy, gamma, beta))
residual = dy.clone()
for leaf in x, gamma, beta, residual: leaf.requires_grad_()
batch_norm = lambda: torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True)
-----
y = torch.relu(batch_norm() + residual)
grads = torch.autograd.grad(y, (x, gamma, beta, residual), dy)
""",
}

#: Linux tells the peak since clear_refs; the first, small step loads what a library loads lazily.
PROGRAM = """
import numpy as np
def arrays(shape):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, *shape), np.float32)
    return x, dy, np.ones(shape[1], np.float32), np.zeros(shape[1], np.float32)
def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))
step = compile({step!r}, "step", "exec")
for shape in (2, 3, 4, 4), {shape!r}:
    x, dy, gamma, beta = arrays(shape)
    bytes_a_tensor = x.nbytes
    exec({setup!r})
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    exec(step)
    peak = status("VmHWM") - before
print(peak / bytes_a_tensor)
"""


def peaks(shape: tuple[int, ...]) -> dict[str, float]:
    """Measure each library that can be imported.

    Returns
    -------
    dict
        Tensors of `shape` beyond x, dy and the residual; outputs count.
    """
    found = {}
    for name, text in STEPS.items():
        setup, _, step = text.partition("-----\n")
        program = PROGRAM.format(setup=setup, step=step, shape=shape)
        run = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        if run.returncode == 0:
            found[name] = float(run.stdout)
        else:
            print(f"{name} is left out: {run.stderr.strip().splitlines()[-1]}")
    return found


def table(shape: tuple[int, ...], style: str) -> str:
    """Give the peaks as a table."""
    rows = [[name, f"{peak:.2f}"] for name, peak in peaks(shape).items()]
    return render(["forward and backward", "peak, in tensors"], rows, style)
