"""The chain's generated code, made from naive.proto when it is imported (grpcio-tools does that)."""

from typing import Any

import grpc

messages: Any
stubs: Any
messages, stubs = grpc.protos_and_services("bench/naive/naive.proto")
