#!/bin/sh
# curl: prints the whole answer, as JSON. Where bursar refuses, it prints that and exits 1.
socket=${BURSAR_SOCKET:-/run/bursar/bursar.sock}
patience=30 # seconds

ask() {
    curl --silent --show-error --unix-socket "$socket" --write-out '\n%{http_code} %header{retry-after}' \
        --data grant_type=client_credentials --data scope=charges:read http://localhost/token/stripe
}

while :; do
    answer=$(ask) || exit
    said=$(printf '%s\n' "$answer" | head -n 1)
    set -- $(printf '%s\n' "$answer" | tail -n 1)
    status=$1 wait=${2:-1}
    # No token now: bursar says when to ask again.
    [ "$status" = 503 ] || [ "$status" = 429 ] || break
    patience=$((patience - wait))
    [ "$patience" -ge 0 ] || break
    sleep "$wait"
done
printf '%s\n' "$said"
case $said in
    # It serves as any other; but if the provider stays down, there will be none after it.
    *'"stale":true'*) echo "the provider fails now, and this token is not renewed: it is stale" >&2 ;;
esac
[ "$status" = 200 ]
