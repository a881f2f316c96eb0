# moto as a child of a test: Secrets Manager, IAM and STS on a port of its own, and boto3 as somebody else's tool.
#
# Says `{"endpoint", "key", "secret"}` when it is ready, then takes a line of JSON for each call of boto3 that the test
# wants made by an administrator, `[service, method, arguments]` or with a region `[service, method, arguments, region]`,
# and answers each with a line. Ends with its stdin.
#
# With VERIFY=1 signatures and IAM policies are verified, and `key` belongs to a user who may nothing yet.
# With AS_DOCUMENTED=1 it does what AWS's documentation says where moto 5.2.5 does something else; what that is stands below.
import base64, datetime, json, logging, os, sys

VERIFY, AS_DOCUMENTED = (os.environ.get(name) == "1" for name in ("VERIFY", "AS_DOCUMENTED"))
# The calls that make the administrator are free.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "3" if VERIFY else "inf"
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

import boto3, botocore
from moto.core.exceptions import JsonRESTError
from moto.iam import access_control
from moto.iam.access_control import IAMRequest, create_access_key
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.secretsmanager import models, responses
from moto.secretsmanager.exceptions import InvalidParameterException, ResourceExistsException, SecretNotFoundException

logging.getLogger("werkzeug").setLevel(logging.ERROR)
Backend, Response = models.SecretsManagerBackend, responses.SecretsManagerResponse


# IAM's policies name the secrets that they are about: moto would compare each with `*`.
def determine_resource(self):
    body = json.loads(self.body or "{}")
    name = body.get("SecretId") or body.get("Name")
    return f"arn:aws:secretsmanager:{self.region}:{self.current_account}:secret:{name}-AbCdEf" if name else "*"


Response._determine_resource = determine_resource


def as_documented():
    put, move = Backend.put_secret_value, Backend.update_secret_version_stage

    # "You can't modify an existing version": also not one with AWSPENDING, which moto overwrites. A value has at most
    # 65,536 bytes.
    def put_secret_value(self, secret_id, secret_string, secret_binary, client_request_token, version_stages):
        if len(secret_string or "") > 65536 or len(base64.b64decode(secret_binary or "")) > 65536:
            raise InvalidParameterException("the value is too long")
        held = self.secrets[secret_id].versions.get(client_request_token) if secret_id in self.secrets else None
        if held:
            same = (held.get("secret_string"), held.get("secret_binary")) == (secret_string, secret_binary)
            if not same:
                raise ResourceExistsException("that token is in use for another value")
            return self.secrets[secret_id].to_short_dict(include_version_stages=True, version_id=client_request_token)
        return put(self, secret_id, secret_string, secret_binary, client_request_token, version_stages)

    # "If the label is attached and you either do not specify this parameter, or the version ID does not match, then the
    # operation fails." And AWSCURRENT is moved, never removed. What is read by default is what has it.
    def update_secret_version_stage(self, secret_id, version_stage, remove_from_version_id, move_to_version_id):
        if secret_id not in self.secrets:
            raise SecretNotFoundException()
        secret = self.secrets[secret_id]
        at = next((id for id, v in secret.versions.items() if version_stage in v["version_stages"]), None)
        if at and at != remove_from_version_id:
            raise InvalidParameterException("the label is elsewhere")
        if version_stage == "AWSCURRENT" and not move_to_version_id:
            raise InvalidParameterException("AWSCURRENT is moved, not removed")
        if move_to_version_id and move_to_version_id not in secret.versions:
            raise SecretNotFoundException()
        answer = move(self, secret_id, version_stage, remove_from_version_id, move_to_version_id)
        if version_stage == "AWSCURRENT":
            secret.set_default_version_id(move_to_version_id)
        return answer

    Backend.put_secret_value = put_secret_value
    Backend.update_secret_version_stage = update_secret_version_stage
    init = SecretNotFoundException.__init__

    # What is not found is answered with status 400.
    def not_found(self):
        init(self)
        self.code = 400

    SecretNotFoundException.__init__ = not_found

    # Who is refused is told so in JSON, by the codes of this protocol ("Common Error Types").
    def refused(code):
        def tell(self, *_):
            raise JsonRESTError(code, "refused")

        return tell

    if VERIFY:
        # The keys of a user count as such also where a metadata service gives them with a token.
        access_control.create_access_key = lambda headers, **of: create_access_key(
            headers={name: value for name, value in headers.items() if name.lower() != "x-amz-security-token"}, **of
        )
        secrets = lambda code, old: lambda self, *a: (refused(code) if self._service == "secretsmanager" else old)(self, *a)
        for name, code in [
            ("_raise_access_denied", "AccessDeniedException"),
            ("_raise_signature_does_not_match", "InvalidSignatureException"),
            ("_raise_invalid_access_key", "UnrecognizedClientException"),
        ]:
            setattr(IAMRequest, name, secrets(code, getattr(IAMRequest, name)))


if AS_DOCUMENTED:
    as_documented()

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
endpoint = f"http://{host}:{port}"
root = {"key": "AKIDROOT", "secret": "root"}


def client(service, region="eu-central-1"):
    settings = botocore.config.Config(retries={"max_attempts": 0})
    return boto3.client(
        service, endpoint_url=endpoint, region_name=region, config=settings,
        aws_access_key_id=root["key"], aws_secret_access_key=root["secret"],
    )


def user(name):
    iam = client("iam")
    iam.create_user(UserName=name)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return {"key": made["AccessKeyId"], "secret": made["SecretAccessKey"]}


facts = {"key": "AKIDEXAMPLE", "secret": "example"}
if VERIFY:
    admin = user("admin")
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    client("iam").put_user_policy(UserName="admin", PolicyName="all", PolicyDocument=json.dumps(everything))
    root = admin
    facts = user("bursar")


def shown(value):
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


print(json.dumps({"endpoint": endpoint, **facts}), flush=True)
for line in sys.stdin:
    service, method, arguments, *region = json.loads(line)
    try:
        answer = getattr(client(service, *region), method)(**arguments)
        answer.pop("ResponseMetadata", None)
    except botocore.exceptions.ClientError as error:
        answer = {"error": error.response["Error"]["Code"]}
    print(json.dumps(answer, default=shown), flush=True)
