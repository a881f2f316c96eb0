#!/usr/bin/python3
"""A rotator of bursar as a program: it keeps the keys of a service in a file, as a stand-in for a real one.

bursar starts it once for each act, with one JSON object on standard input, and reads one from standard output. What stands
in `values` comes from the configuration; `admin` is the credential with which to act. Neither is in the arguments or in the
environment. A real one replaces the five methods of `Service` by calls to its service; the rest stays as it is.
See docs/rotators/exec.md.
"""

import fcntl
import json
import os
import secrets
import sys


class Refused(Exception):
    """The service said no, and nothing has happened there."""


class Service:
    """The keys by id: `{"k1": {"label": "bursar-…", "value": "…"}}`. The lock stands in for the service's transactions."""

    def __init__(self, path, admin):
        if admin != "the-administrators-password":
            raise Refused("admin is not accepted")
        self.file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        fcntl.flock(self.file, fcntl.LOCK_EX)
        text = self.file.read()
        self.keys = json.loads(text) if text else {}

    def save(self):
        self.file.seek(0)
        self.file.truncate()
        json.dump(self.keys, self.file)
        self.file.flush()
        os.fsync(self.file.fileno())

    def create(self, label):
        if len(self.keys) >= 4:
            raise Refused("quota exceeded")
        id, value = "k" + secrets.token_hex(4), secrets.token_urlsafe(32)
        # The label is kept with the key: by it bursar finds again what was made for a reply that got lost.
        self.keys[id] = {"label": label, "value": value}
        self.save()
        return {"id": id, "value": value}

    def list(self):
        return {"credentials": [{"id": id, "label": key["label"]} for id, key in self.keys.items()]}

    def test(self, value):
        # By using it, as a reader would.
        return {"accepted": any(secrets.compare_digest(key["value"], value) for key in self.keys.values())}

    def revoke(self, id):
        # What is not there any more is ended: the same act may come twice.
        self.keys.pop(id, None)
        self.save()
        return {}


def act(asked):
    if asked["v"] != 1:
        return {"error": "setup", "reason": "this version is not known"}
    service = Service(asked["values"]["path"], asked.get("admin"))
    if asked["act"] == "create":
        return service.create(asked["label"])
    if asked["act"] == "list":
        return service.list()
    if asked["act"] == "test":
        return service.test(asked["value"])
    if asked["act"] == "revoke":
        return service.revoke(asked["id"])
    # `set` is asked of a program with `invents = "us"` only.
    return {"error": "setup", "reason": "this act is not known"}


try:
    said = act(json.load(sys.stdin))
except Refused as refused:
    said = {"error": "refused", "reason": str(refused)}
# Anything else ends with a trace on standard error, which bursar counts and does not show: it may have taken place.
json.dump({"v": 1, **said}, sys.stdout)
