"""httpx: prints the access token."""

import os
import sys

import httpx

socket = os.environ.get("BURSAR_SOCKET", "/run/bursar/bursar.sock")
# trust_env=False: no proxy of the environment comes in between.
bursar = httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://localhost", trust_env=False)

answer = bursar.post("/token/stripe", data={"grant_type": "client_credentials", "scope": "charges:read"})
if answer.is_error:
    sys.exit(f"{answer.json()['error']}: {answer.json()['error_description']}; {answer.json()['remedy']}")
print(answer.json()["access_token"])
