"""The chain one would write first: FastAPI, a unary gRPC call per request, one write per put."""
