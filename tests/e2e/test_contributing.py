"""A script follows docs/add-a-service.md to the letter in a copy of the repository, and the new service runs."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from product import Product

_ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?P<verb>write|write-at-end|edit|sh)(?: (?P<path>\S+))?\n(?P<body>.*?)^```$", re.M | re.S)
_CALL = """
import asyncio, sys
from tovuk_kit.client import Channel
from tovuk.toy.v1 import toy_pb2 as wire, toy_pb2_grpc as grpc_wire
async def main():
    channel = Channel(sys.argv[1], sys.stdin.read().strip(), "toy")
    add = grpc_wire.ToyStub(channel.grpc).Add
    for amount in (40, 2):
        reply = await channel.unary(add, wire.AddRequest(name="visits", amount=amount), retry=False)
    print(reply.total)
    await channel.close()
asyncio.run(main())
"""


class Step(NamedTuple):
    """One block of the page."""

    verb: str
    path: str
    body: str


def _steps() -> Iterator[Step]:
    for fence in _FENCE.finditer((_ROOT / "docs/add-a-service.md").read_text()):
        yield Step(fence["verb"], fence["path"] or "", fence["body"])


def _edited(text: str, hunk: str) -> str:
    lines = hunk.splitlines()
    old = "\n".join(line[1:] for line in lines if not line.startswith("+"))
    new = "\n".join(line[1:] for line in lines if not line.startswith("-"))
    assert text.count(old) == 1, f"the page edits what stands {text.count(old)} times:\n{old}"
    return text.replace(old, new)


def _follow(step: Step, copy: Path) -> None:
    file = copy / step.path
    match step.verb:
        case "write":
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(step.body)
        case "write-at-end":
            file.write_text(file.read_text() + step.body)
        case "edit":
            file.write_text(_edited(file.read_text(), step.body))
        case _:
            _run(step.body, copy)


def _run(script: str, copy: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL"}}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=copy, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as it stands, with the page followed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=_ROOT, capture_output=True
    )
    if listed.returncode != 0:
        pytest.skip("the copy is made of what git lists; this checkout has no git")
    copy = tmp_path_factory.mktemp("repository")
    for name in listed.stdout.decode().rstrip("\0").split("\0"):
        if (_ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_ROOT / name, copy / name)
    _run(f"make setup PYTHON={sys.executable}", copy)
    for step in _steps():
        _follow(step, copy)
    return copy


def test_the_pages_service_passes_every_check_and_runs(copy: Path, tmp_path: Path) -> None:
    with Product.launched(tmp_path, copy / ".venv/bin/tovuk") as product:
        socket = product.data / "run/toy.sock"
        key = (product.data / "internal.key").read_text()
        said = subprocess.run(
            [copy / ".venv/bin/python", "-c", _CALL, f"unix:{socket}"], input=key, capture_output=True, text=True
        )
    assert said.stdout.strip() == "42", said.stderr


def test_its_contract_finds_a_planted_fault(copy: Path) -> None:
    noun = copy / "services/toy/src/tovuk_toy/tally.py"
    honest = noun.read_text()
    noun.write_text(honest + "\nfrom tovuk.toy.v1 import toy_pb2\n")
    try:
        checked = subprocess.run([copy / ".venv/bin/lint-imports"], cwd=copy, capture_output=True, text=True)
    finally:
        noun.write_text(honest)
    assert checked.returncode != 0
    assert "Protobuf stops at the edge BROKEN" in checked.stdout
