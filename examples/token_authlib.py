"""Authlib, a stock OAuth client: bursar is its token endpoint. Prints the access token."""

import os
import sys
from urllib.parse import quote

from authlib.integrations.requests_client import OAuth2Session
from requests_unixsocket.adapters import UnixAdapter
from urllib3.util import Retry

socket = os.environ.get("BURSAR_SOCKET", "/run/bursar/bursar.sock")
# No token now: urllib3 asks again when bursar's `Retry-After` says, and gives the last answer if there is still none.
waits = Retry(total=5, status_forcelist=[429, 503], allowed_methods=["POST"], raise_on_status=False)
# The client needs an id and has no secret: bursar goes by what the kernel says of this process.
session = OAuth2Session("checkout", token_endpoint_auth_method="none", scope="charges:read")
session.mount("http+unix://", UnixAdapter(max_retries=waits))
token = session.fetch_token(f"http+unix://{quote(socket, safe='')}/token/stripe", grant_type="client_credentials")
if token["stale"]:
    # It serves as any other; but if the provider stays down, there will be none after it.
    print("the provider fails now, and this token is not renewed: it is stale", file=sys.stderr)
print(token["access_token"])
