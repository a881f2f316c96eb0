// An authorization server: npm oidc-provider over TLS, with an admin port by which a test changes clients
// and faults while it runs.
//
// environment: PEERS, CERTS (a directory with ca.pem, server.pem and server.key), PORT (0: any), TTL (seconds)
// stdout:      {"issuer": "https://localhost:…", "by_certificate": "https://localhost:…", "admin": "http://127.0.0.1:…"}
//
// A client is registered with the initial access token `initial-access-token` (RFC 7591), and deleted (RFC 7592).
// Who proves itself by a certificate comes by another port, which the metadata names (RFC 8705 §5): the first asks for none.
//
// admin:  PUT    /clients/<id>  {"client_secret": "new", "also": ["old"]}   merged into the client; `also` works too, until the next PUT
//                                                        an id that is not there yet is a new client; `kept_ms`: for how long its key set is kept
//         PUT    /faults        {"status", "headers", "body", "delay_ms", "reset", "times", "path"}   instead of an answer; an empty body ends it
//         GET    /requests      how many requests the token endpoint has had, faults included
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { installed, ready } from './ready.mjs';

const { Provider, errors } = await installed('oidc-provider/lib/index.js');
const ttl = Number(process.env.TTL ?? 300);

const client = (client_id, client_secret, token_endpoint_auth_method) => ({
  client_id, client_secret, token_endpoint_auth_method, grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
  // The one key of this server is an EC key; no client here gets an id token.
  id_token_signed_response_alg: 'ES256',
});
const records = new Map([
  client('basic', 'basic-secret', 'client_secret_basic'),
  // These work only if id and secret are form-urlencoded before base64 (RFC 6749 §2.3.1).
  client('ba:sic+weird', 'p%40ss w+rd:/&=?~', 'client_secret_basic'),
  client('post', 'post-secret', 'client_secret_post'),
  client('csjwt', 'a-secret-of-thirty-two-bytes-or-more', 'client_secret_jwt'),
  // Their keys are told by the admin port.
  { ...client('pkjwt', undefined, 'private_key_jwt'), jwks: { keys: [] } },
  { ...client('selfsigned', undefined, 'self_signed_tls_client_auth'), jwks: { keys: [] } },
  { ...client('mtls', undefined, 'tls_client_auth'), tls_client_auth_subject_dn: 'CN=bursar' },
  // A resource server, which may introspect everybody's tokens.
  client('rs', 'rs-secret', 'client_secret_basic'),
].map((it) => [`Client:${it.client_id}`, it]));

let reads = 0;
// Everything in one map, so that a client can be changed between two requests.
class Adapter {
  constructor(kind) { this.kind = kind; }
  async upsert(id, record) { records.set(`${this.kind}:${id}`, record); }
  async find(id) {
    const record = structuredClone(records.get(`${this.kind}:${id}`));
    if (this.kind !== 'Client' || !record?.jwks_uri) return record;
    // What is fetched from a jwks_uri is kept for a minute, with the client as it was read. Here it is read as another.
    const { kept_ms, ...client } = record;
    return { ...client, client_name: `${kept_ms ? Math.floor(Date.now() / kept_ms) : (reads += 1)}` };
  }
  async destroy(id) { records.delete(`${this.kind}:${id}`); }
  async findByUid() {}
  async findByUserCode() {}
  async consume() {}
  async revokeByGrantId() {}
}

// What RFC 8707 calls resources, with the scopes that each knows and the form of its tokens.
const resources = { 'urn:api:jwt': 'jwt', 'urn:api:opaque': 'opaque' };

const certificate = (ctx) => ctx.socket.getPeerX509Certificate?.();

function configuration(byCertificate) {
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });
  return {
    adapter: Adapter,
    scopes: ['openid', 'offline_access', 'read', 'write', 'admin', 'charges:read', 'charges:write'],
    jwks: { keys: [{ ...key, alg: 'ES256', use: 'sig', kid: 'made-at-start' }] },
    clientAuthMethods: [
      'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth',
    ],
    enabledJWA: { clientAuthSigningAlgValues: ['HS256', 'RS256', 'PS256', 'ES256', 'ES384', 'EdDSA'] },
    discovery: { mtls_endpoint_aliases: { token_endpoint: `${byCertificate}/token`, revocation_endpoint: `${byCertificate}/token/revocation` } },
    ttl: { ClientCredentials: (ctx, token) => token.resourceServer?.accessTokenTTL ?? ttl },
    // Registered clients get no id token either.
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    // Without the library's dispatcher, which refuses loopback: a jwks_uri of these tests is there.
    fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
    features: {
      registration: { enabled: true, initialAccessToken: 'initial-access-token' },
      registrationManagement: { enabled: true },
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: (ctx, asking, token) => asking.clientId === 'rs' || token.clientId === asking.clientId },
      mTLS: {
        enabled: true,
        tlsClientAuth: true,
        selfSignedTlsClientAuth: true,
        getCertificate: (ctx) => certificate(ctx)?.toString(),
        certificateAuthorized: (ctx) => ctx.socket.authorized,
        certificateSubjectMatches: (ctx, property, expected) => certificate(ctx).subject === expected,
      },
      revocation: { enabled: true, allowedPolicy: (ctx, asking, token) => token.clientId === asking.clientId },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        getResourceServerInfo(ctx, resource) {
          if (!(resource in resources)) throw new errors.InvalidTarget();
          return { scope: 'read write', audience: resource, accessTokenTTL: ttl, accessTokenFormat: resources[resource], jwt: { sign: { alg: 'ES256' } } };
        },
      },
    },
  };
}

// The second secret of a client, while a test rotates the first.
const also = new Map();
function allowSecondSecrets(provider) {
  const first = provider.Client.prototype.compareClientSecret;
  provider.Client.prototype.compareClientSecret = async function compare(secret) {
    return (await first.call(this, secret)) || (also.get(this.clientId) ?? []).includes(secret);
  };
}

let fault = null;
let requests = 0;
function answer(request, response, provider) {
  const [path] = request.url.split('?');
  if (path === '/token') requests += 1;
  if (!fault || fault.times === 0 || path !== (fault.path ?? '/token')) return provider(request, response);
  if (fault.times) fault.times -= 1;
  const { delay_ms = 0, reset, status = 503, headers = {}, body = '{"error":"temporarily_unavailable"}' } = fault;
  return setTimeout(() => {
    if (reset) return request.socket.destroy();
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    return response.end(body);
  }, delay_ms);
}

async function administer(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const said = chunks.length ? JSON.parse(Buffer.concat(chunks)) : null;
  const [, kind, id] = request.url.split('/').map(decodeURIComponent);
  if (kind === 'faults') fault = said;
  if (kind === 'clients') {
    const { also: second = [], ...changes } = said;
    also.set(id, second);
    records.set(`Client:${id}`, { ...records.get(`Client:${id}`), ...changes, client_id: id });
  }
  response.end(JSON.stringify({ requests }));
}

const listening = (server, port) => new Promise((resolve) => { server.listen(port, '127.0.0.1', () => resolve(server.address().port)); });
const read = (file) => readFileSync(`${process.env.CERTS}/${file}`);

const server = createTlsServer({ key: read('server.key'), cert: read('server.pem') });
const issuer = `https://localhost:${await listening(server, Number(process.env.PORT ?? 0))}`;
const asking = { ca: read('ca.pem'), requestCert: true, rejectUnauthorized: false };
const door = createTlsServer({ key: read('server.key'), cert: read('server.pem'), ...asking });
const byCertificate = `https://localhost:${await listening(door, 0)}`;
const provider = new Provider(issuer, configuration(byCertificate));
allowSecondSecrets(provider);
provider.on('server_error', (ctx, error) => console.error('server_error', error));
const callback = provider.callback();
for (const one of [server, door]) one.on('request', (request, response) => answer(request, response, callback));

const admin = createServer((request, response) => {
  administer(request, response).catch((error) => { response.statusCode = 400; response.end(String(error)); });
});
ready({ issuer, by_certificate: byCertificate, admin: `http://127.0.0.1:${await listening(admin, 0)}` });
