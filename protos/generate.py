"""Generates the wire's Python, and keeps `golden.txt`, the list of everything the wire promises.

    python protos/generate.py           write both
    python protos/generate.py --check   fail when either is not up to date

What stands in the golden list stays: a message, field, number, type or call that is gone or changed would break
processes of the version before, so both forms refuse it. Additions are written by the first form.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

_HERE = Path(__file__).resolve().parent
_OUT = _HERE / "src"
_GOLDEN = _HERE / "golden.txt"
_FIELD = descriptor_pb2.FieldDescriptorProto


def compile_into(out: Path, descriptors: Path) -> None:
    """Runs protoc over every .proto; exits with its status when it fails."""
    sources = sorted(str(path.relative_to(_HERE)) for path in (_HERE / "tovuk").rglob("*.proto"))
    include = Path(protoc.__file__).parent / "_proto"
    status = protoc.main(
        [
            "protoc",
            f"-I{_HERE}",
            f"-I{include}",
            f"--python_out={out}",
            f"--pyi_out={out}",
            f"--grpc_python_out={out}",
            f"--descriptor_set_out={descriptors}",
            *sources,
        ]
    )
    if status != 0:
        sys.exit(status)


def promises(files: descriptor_pb2.FileDescriptorSet) -> list[str]:
    """One line for each thing a peer may rely on, sorted."""
    lines: list[str] = []
    for file in files.file:
        for message in file.message_type:
            lines += _message(f"{file.package}.{message.name}", message)
        for enum in file.enum_type:
            lines += [f"{file.package}.{enum.name}.{value.name} = {value.number}" for value in enum.value]
        for service in file.service:
            lines += [
                f"{file.package}.{service.name}.{call.name}"
                f"({'stream ' * call.client_streaming}{call.input_type})"
                f" -> {'stream ' * call.server_streaming}{call.output_type}"
                for call in service.method
            ]
    return sorted(lines)


def _message(name: str, message: descriptor_pb2.DescriptorProto) -> Iterator[str]:
    for field in message.field:
        kind = field.type_name or _FIELD.Type.Name(field.type).removeprefix("TYPE_").lower()
        label = _FIELD.Label.Name(field.label).removeprefix("LABEL_").lower()
        yield f"{name}.{field.name} = {field.number} {label} {kind}"
    for nested in message.nested_type:
        yield from _message(f"{name}.{nested.name}", nested)
    for enum in message.enum_type:
        for value in enum.value:
            yield f"{name}.{enum.name}.{value.name} = {value.number}"


def _differences(made: Path) -> list[str]:
    fresh = {path.relative_to(made): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    kept = {
        path.relative_to(_OUT): path.read_bytes()
        for pattern in ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py")
        for path in _OUT.rglob(pattern)
    }
    return sorted(str(path) for path in fresh.keys() | kept.keys() if fresh.get(path) != kept.get(path))


def main(check: bool) -> int:
    """Writes or checks; returns the exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        made, descriptors = Path(scratch) / "made", Path(scratch) / "descriptors"
        made.mkdir()
        compile_into(made, descriptors)
        now = promises(descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()))
        golden = _GOLDEN.read_text().splitlines() if _GOLDEN.exists() else []
        problems = [f"the wire broke a promise: {line}" for line in golden if line not in set(now)]
        if check:
            problems += [f"not up to date, run make gen: {path}" for path in _differences(made)]
            problems += [f"not in protos/golden.txt, run make gen: {line}" for line in now if line not in set(golden)]
        if problems:
            sys.stderr.write("\n".join(problems) + "\n")
            return 1
        if not check:
            for path in made.rglob("*"):
                if path.is_file():
                    target = _OUT / path.relative_to(made)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(path.read_bytes())
            _GOLDEN.write_text("\n".join(now) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
