# aws.py, where IAM's policies name the users that they are about: moto would compare each with `*`.
import os, runpy

os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "3"

from moto.iam.responses import IamResponse

of_roles = IamResponse._determine_resource


def determine_resource(self):
    name = self.data.get("UserName", [None])[0]
    return f"arn:aws:iam::{self.current_account}:user/{name}" if name else of_roles(self)


IamResponse._determine_resource = determine_resource
runpy.run_path(os.path.join(os.path.dirname(__file__), "aws.py"), run_name="__main__")
