"""Authlib, a stock OAuth client: bursar is its token endpoint. Prints the access token."""

import os
from urllib.parse import quote

from authlib.integrations.requests_client import OAuth2Session
from requests_unixsocket.adapters import UnixAdapter

socket = os.environ.get("BURSAR_SOCKET", "/run/bursar/bursar.sock")
# The client needs an id and has no secret: bursar goes by what the kernel says of this process.
session = OAuth2Session("checkout", token_endpoint_auth_method="none", scope="charges:read")
session.mount("http+unix://", UnixAdapter())
token = session.fetch_token(f"http+unix://{quote(socket, safe='')}/token/stripe", grant_type="client_credentials")
print(token["access_token"])
