// Node, without packages: prints the access token.
import { request } from 'node:http';

const socketPath = process.env.BURSAR_SOCKET ?? '/run/bursar/bursar.sock';
const headers = { 'content-type': 'application/x-www-form-urlencoded' };
const form = new URLSearchParams({ grant_type: 'client_credentials', scope: 'charges:read' });

const asking = request({ socketPath, path: '/token/stripe', method: 'POST', headers }, async (answer) => {
  const said = JSON.parse((await answer.toArray()).join(''));
  if (answer.statusCode !== 200) {
    console.error(`${said.error}: ${said.error_description}; ${said.remedy}`);
    process.exitCode = 1;
  } else {
    console.log(said.access_token);
  }
});
asking.end(form.toString());
