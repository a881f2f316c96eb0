// simple-oauth2 on Node, a stock OAuth client: bursar is its token endpoint. Prints the access token.
const { setTimeout: pause } = require('node:timers/promises');
const { ClientCredentials } = require('simple-oauth2');

const bursar = new ClientCredentials({
  // The client needs an id and a secret, and has none: bursar goes by what the kernel says of this process.
  client: { id: 'checkout', secret: 'none' },
  auth: { tokenHost: 'http://localhost', tokenPath: '/token/stripe' },
  http: { socketPath: process.env.BURSAR_SOCKET ?? '/run/bursar/bursar.sock' },
});

async function grant(patience = 30) {
  try {
    return (await bursar.getToken({ scope: 'charges:read' })).token;
  } catch (error) {
    const wait = Number(error.data?.headers?.['retry-after'] ?? 1);
    // No token now: bursar says when to ask again.
    if (![429, 503].includes(error.output?.statusCode) || patience < wait) throw error;
    await pause(wait * 1000);
    return grant(patience - wait);
  }
}

grant().then((token) => {
  // A stale one serves as any other; but if the provider stays down, there will be none after it.
  if (token.stale) console.error('the provider fails now, and this token is not renewed: it is stale');
  console.log(token.access_token);
}).catch((error) => {
  const said = error.data?.payload;
  console.error(said ? `${said.error}: ${said.error_description}; ${said.remedy}` : error.message);
  process.exitCode = 1;
});
