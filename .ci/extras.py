"""What happens where an optional package is missing: one sentence that names the extra, never a traceback.

Run in an environment that has bnpp with its extras demo and onnx. Each case can import only what a folder of links
leads to, that environment's packages less those that are to be missing. So they are missing for `find_spec` too,
where a hook that refuses imports would raise.
"""

import importlib.metadata
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import bnpp

WORKS = """
import pkgutil, numpy, bnpp.experiments
assert bnpp.batch_norm(numpy.eye(3))[0].shape == (3, 3)
for module in pkgutil.walk_packages(bnpp.experiments.__path__, "bnpp.experiments."):
    __import__(module.name)
"""
REPORT = """
import bnpp.onnx, onnx.parser
model = onnx.parser.parse_model('''<ir_version: 8, opset_import: ["": 15]> g (float[2,1] x) => (float[2,1] y)
    <float[1] s = {2}> {y = BatchNormalization(x, s, s, s, s)}''')
str(bnpp.onnx.fold(model, leftover="mul_add")[1])
"""
BFLOAT16 = "import bnpp; bnpp.batch_norm(type('Tensor', (), {'dtype': 'torch.bfloat16', '__array__': 1})())"
COMMAND = "import sys, bnpp._cli; sys.exit(bnpp._cli.main({}))"
DEMO, FOLD = COMMAND.format(["demo"]), COMMAND.format(["fold", "no.onnx", "-o", "out.onnx"])
NO_ONNX = "bnpp.onnx needs the packages of its extra: pip install 'bnpp[onnx]'"
NO_RICH = "the table needs the rich package: pip install 'bnpp[onnx]'"

#: By name: what is missing, the code, and all that it says ("" where it works). "..." is anything.
CASES = {
    "import bnpp": ("all", WORKS, ""),
    "a tensor of bfloat16": ("all", BFLOAT16, "TypeError: ... or ml_dtypes.bfloat16 is needed"),
    "bnpp demo": ("all", DEMO, "bnpp demo: ...: pip install 'bnpp[demo]'"),
    "bnpp fold": ("all", FOLD, f"bnpp fold: {NO_ONNX}"),
    "import bnpp.onnx": ("onnx", "import bnpp.onnx", f"ImportError: {NO_ONNX}"),
    "bnpp fold without rich": ("rich", FOLD, f"bnpp fold: {NO_RICH}"),
    "a report without rich": ("rich", REPORT, f"ImportError: {NO_RICH}"),
    "a report without onnxruntime": ("onnxruntime", REPORT, ""),
}
for line in importlib.metadata.requires("bnpp") or ():
    package, extra = re.split(r"[^\w-]", line)[0], line.rpartition("==")[2]
    if "demo" in extra:
        sentence = f"bnpp demo: {package} is not installed: pip install 'bnpp[demo]'"
        module = {"scikit-learn": "sklearn"}.get(package, package)
        CASES[f"bnpp demo without {package}"] = (module, DEMO, sentence)
    elif "onnx" in extra and package not in {missing for missing, *_ in CASES.values()}:
        raise SystemExit(f".ci/extras.py: {package} of the extra onnx has no case")


def said(missing: str, code: str) -> str:
    """Run code without a package, or without all optional ones; give back its status and words."""
    with tempfile.TemporaryDirectory() as folder:
        for entry in Path(bnpp.__file__).parents[1].iterdir():
            name = re.split(r"[.-]", entry.name)[0]
            if name in ("numpy", "bnpp") if missing == "all" else name != missing:
                (Path(folder) / entry.name).symlink_to(entry)
        code = f"import sys; sys.path.append({folder!r})\n{code}"
        command = [sys.executable, "-I", "-S", "-c", code]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    words = done.stderr.strip()
    # Of an exception that its caller may catch, the own words count.
    return f"{done.returncode}: " + (words.splitlines()[-1] if "Traceback" in words else words)


wrong = []
for case, (missing, code, needed) in CASES.items():
    pattern, words = re.escape(f"{int(needed != '')}: {needed}"), said(missing, code)
    if not re.fullmatch(pattern.replace(r"\.\.\.", ".*"), words):
        wrong.append(f"{case} says {words!r}, but {needed!r} is needed")
if wrong:
    raise SystemExit("\n".join(f".ci/extras.py: {sentence}" for sentence in wrong))
print(f"{len(CASES)} cases of missing packages")
