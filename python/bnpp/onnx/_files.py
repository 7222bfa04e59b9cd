"""Reading and writing models: a file is replaced by a whole one or left as it was.

A model of more than 2 GB has its large tensors in a second file. That one gets a name made of its
contents, so that a model's file and its data always belong together, also when a write is interrupted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

from bnpp.onnx import _constants, _skeleton
from bnpp.onnx._proto import bodies

#: Models of more bytes keep their tensors in a second file: protobuf cannot write 2 GiB.
LARGE = 2**31 - 2**24
#: Tensors of fewer bytes stay in the model's file in any case.
SMALL_TENSOR = 1024
#: The data of a tensor begin at a multiple of this, which lets a runtime map the file into memory.
ALIGNMENT = 4096


def load(path: Path) -> ModelProto:
    """Read a model with all its data.

    Raises
    ------
    ValueError
        If the file is no ONNX model, or a file with its data is missing.
    OSError
        If it cannot be read.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, but an ONNX model is needed")
    try:
        with path.open("rb") as file:
            model = onnx.load_model(file, format="protobuf", load_external_data=False)
        onnx.load_external_data_for_model(model, str(path.resolve().parent))
    except DecodeError as error:
        raise ValueError(f"{path} is not an ONNX model") from error
    except (onnx.checker.ValidationError, FileNotFoundError) as error:
        if not path.exists():
            raise
        raise ValueError(f"the data of {path} cannot be read: {_sentence(error)}") from error
    if not model.ir_version or not model.HasField("graph"):
        raise ValueError(f"{path} is not an ONNX model")
    return model


def check(model: ModelProto, what: str) -> None:
    """Check a model by ONNX's rules.

    Raises
    ------
    ValueError
        If it breaks one, or if data lie in a file that was not read.
    """
    for tensor in _tensors(model.graph):
        _constants.require_data(tensor)
    if is_large(model):
        # The rules are about structure: the data themselves are not needed.
        model = _skeleton.copy_model(model, _emptied)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, EncodeError) as error:
        raise ValueError(f"{what} is not valid ONNX: {_sentence(error)}") from error


def is_large(model: ModelProto) -> bool:
    """Tell whether a model cannot be one file."""
    return sum(_bytes(tensor) for tensor in _tensors(model.graph)) > LARGE


def save(model: ModelProto, path: Path) -> list[Path]:
    """Write a model, so that at no moment a broken file is at its place.

    Returns
    -------
    list of pathlib.Path
        The file, and that of its data if there is one.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path = path.resolve()
    if not is_large(model):
        with replacing(path) as file:
            file.write(model.SerializeToString())
        return [path]
    old = set(path.parent.glob(f"{path.name}.*.data"))
    written, kept = None, False
    try:
        skeleton, written = _write_data(model, path)
        with replacing(path) as file:
            file.write(skeleton.SerializeToString())
        kept = True
    finally:
        if written is not None and not kept and written not in old:
            written.unlink(missing_ok=True)
    return [path, written]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` in the end, if nothing was raised until then."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_data(model: ModelProto, path: Path) -> tuple[ModelProto, Path]:
    """Write the large tensors, and return the model that refers to them and their file."""
    digest = hashlib.sha256()
    places: dict[int, tuple[int, int]] = {}
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            for index, tensor in enumerate(_tensors(model.graph)):
                if _bytes(tensor) < SMALL_TENSOR or tensor.data_type == TensorProto.STRING:
                    continue
                gap = -file.tell() % ALIGNMENT
                file.write(bytes(gap))
                data = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
                places[index] = file.tell(), len(data)
                digest.update(data)
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        final = path.with_name(f"{path.name}.{digest.hexdigest()[:12]}.data")
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)
    stubs = {
        id(tensor): _skeleton.external(tensor, final.name, *places[index])
        for index, tensor in enumerate(_tensors(model.graph))
        if index in places
    }
    return _skeleton.copy_model(model, lambda tensor: stubs.get(id(tensor))), final


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield the tensors of initializers and of attributes, those of subgraphs too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
        for _, body in bodies(node):
            yield from _tensors(body)


def _bytes(tensor: TensorProto) -> int:
    return len(tensor.raw_data) or tensor.ByteSize()


def _emptied(tensor: TensorProto) -> TensorProto | None:
    if _bytes(tensor) < SMALL_TENSOR:
        return None
    return TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0])


def _sentence(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
