"""httpx: prints the access token."""

import os
import sys
import time

import httpx

socket = os.environ.get("BURSAR_SOCKET", "/run/bursar/bursar.sock")
# trust_env=False: no proxy of the environment comes in between.
bursar = httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://localhost", trust_env=False)


def token(patience=30):
    """The answer that grants a token. Waits as bursar says, `patience` seconds in all."""
    while True:
        answer = bursar.post("/token/stripe", data={"grant_type": "client_credentials", "scope": "charges:read"})
        wait = int(answer.headers.get("retry-after", 1))
        patience -= wait
        # No token now: bursar says when to ask again.
        if answer.status_code not in (429, 503) or patience < 0:
            break
        time.sleep(wait)
    said = answer.json()
    if answer.is_error:
        sys.exit(f"{said['error']}: {said['error_description']}; {said['remedy']}")
    return said


granted = token()
if granted["stale"]:
    # It serves as any other; but if the provider stays down, there will be none after it.
    print("the provider fails now, and this token is not renewed: it is stale", file=sys.stderr)
print(granted["access_token"])
