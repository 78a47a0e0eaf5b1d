"""The published client, pointed at the launched product."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from product import Reached
from published_client import INSTALL, VERSION, Client, Run, find


@pytest.fixture(scope="session")
def client_binary() -> str:
    """The client's path; without one CI fails, and others are told how to get it."""
    found = find()
    if found is not None:
        return found
    missing = f"the published client {VERSION} is missing: {INSTALL}"
    return pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)


@pytest.fixture(scope="session")
def client(tovuk: Reached, client_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Runs the client with the first account's token and a home directory of its own."""
    home = tmp_path_factory.mktemp("home")

    def run(*args: str, token: str | None = None, cwd: Path | None = None) -> Run:
        env: Mapping[str, str] = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TOVUK_TOKEN": tovuk.token if token is None else token,
        }
        done = subprocess.run(
            [client_binary, "--api", tovuk.url, *args], env=env, cwd=cwd, capture_output=True, text=True, timeout=60
        )
        return Run(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def service(tovuk: Reached) -> Iterator[Mapping[str, Any]]:
    """A service without namespaces, named client-tests, whose name is free again afterwards."""
    created = tovuk.create_service("client-tests")
    yield created
    tovuk.request("DELETE", f"/v1/services/{created['id']}")


@pytest.fixture
def kv(client: Client, service: Mapping[str, Any]) -> Iterator[Client]:
    """`kv WORDS… --service <id>`, with an empty namespace CACHE that is deleted afterwards."""

    def run(*words: str) -> Run:
        return client("kv", words[0], "--service", service["id"], *words[1:])

    assert run("create", "CACHE", "--json").status == 0
    yield run
    client("kv", "namespace", "delete", "--service", service["id"], "CACHE", "--json")
