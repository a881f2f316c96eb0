"""requests-oauthlib, a stock OAuth client: bursar is its token endpoint. Prints the access token."""

import os
from urllib.parse import quote

# oauthlib wants https of a token endpoint, and takes a socket of this machine for the network.
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"

from oauthlib.oauth2 import BackendApplicationClient
from requests_oauthlib import OAuth2Session
from requests_unixsocket.adapters import UnixAdapter

socket = os.environ.get("BURSAR_SOCKET", "/run/bursar/bursar.sock")
# The client needs an id and has no secret: bursar goes by what the kernel says of this process.
session = OAuth2Session(client=BackendApplicationClient(client_id="checkout", scope=["charges:read"]))
session.mount("http+unix://", UnixAdapter())
token = session.fetch_token(f"http+unix://{quote(socket, safe='')}/token/stripe", client_secret="")
print(token["access_token"])
