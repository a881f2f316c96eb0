"""JupyterHub without proxy and browser sessions: its REST API alone, at HUB_PORT, with the state in HUB_DIR."""

import os

from jupyterhub.proxy import Proxy


class NoProxy(Proxy):
    should_start = False

    async def add_route(self, *a):
        pass

    async def delete_route(self, *a):
        pass

    async def get_all_routes(self):
        return {}


port, folder = int(os.environ["HUB_PORT"]), os.environ["HUB_DIR"]
c = get_config()  # noqa: F821
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{port}"
c.JupyterHub.bind_url = os.environ["HUB_BIND"]
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.db_url = f"sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = f"{folder}/cookie_secret"
c.JupyterHub.log_level = "WARN"
c.Authenticator.allow_all = True
# The least that docs/rotators/http.md tells of: the tokens of one user. `setup` makes that user, for the test.
c.JupyterHub.load_roles = [
    {"name": "rotator", "scopes": ["tokens!user=svc"], "services": ["bursar"]},
    {"name": "setup", "scopes": ["admin:users"], "services": ["setup"]},
]
c.JupyterHub.services = [
    {"name": "bursar", "api_token": os.environ["HUB_ADMIN"]},
    {"name": "setup", "api_token": os.environ["HUB_SETUP"]},
]
