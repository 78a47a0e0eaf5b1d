#!/usr/bin/env bash
# Prints a fresh .env for docker-compose.yml: the secrets that its services share. `make up` writes it once.
set -euo pipefail
secret() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
echo "TOVUK_INTERNAL_KEY=$(secret 32)"
echo "TOVUK_NATS_PASSWORD=$(secret 24)"
echo "TOVUK_POSTGRES_CONTROL_PASSWORD=$(secret 24)"
echo "TOVUK_POSTGRES_METERING_PASSWORD=$(secret 24)"
echo "TOVUK_REDIS_PASSWORD=$(secret 24)"
echo "TOVUK_ARCHIVE_PASSWORD=$(secret 24)"
echo "TOVUK_BOOTSTRAP_TOKEN=bootstrap-$(secret 24)"
