// Node, without packages: prints the access token.
import { request } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

const socketPath = process.env.BURSAR_SOCKET ?? '/run/bursar/bursar.sock';
const headers = { 'content-type': 'application/x-www-form-urlencoded' };
const form = new URLSearchParams({ grant_type: 'client_credentials', scope: 'charges:read' });

const ask = () => new Promise((resolve, reject) => {
  const asking = request({ socketPath, path: '/token/stripe', method: 'POST', headers }, async (answer) => {
    const said = JSON.parse((await answer.toArray()).join(''));
    resolve({ status: answer.statusCode, wait: Number(answer.headers['retry-after'] ?? 1), said });
  });
  asking.on('error', reject).end(form.toString());
});

let answer = await ask();
// No token now: bursar says when to ask again. After 30 s in all this gives up.
for (let patience = 30 - answer.wait; [429, 503].includes(answer.status) && patience >= 0; patience -= answer.wait) {
  await pause(answer.wait * 1000);
  answer = await ask();
}
const { status, said } = answer;
if (status !== 200) {
  console.error(`${said.error}: ${said.error_description}; ${said.remedy}`);
  process.exitCode = 1;
} else {
  // A stale one serves as any other; but if the provider stays down, there will be none after it.
  if (said.stale) console.error('the provider fails now, and this token is not renewed: it is stale');
  console.log(said.access_token);
}
