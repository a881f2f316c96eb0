#!/bin/sh
# curl: prints the whole answer, as JSON. Where policy refuses, it prints that and exits 22.
exec curl --silent --show-error --fail-with-body \
    --unix-socket "${BURSAR_SOCKET:-/run/bursar/bursar.sock}" \
    --data grant_type=client_credentials --data scope=charges:read \
    http://localhost/token/stripe
