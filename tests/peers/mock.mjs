// An authorization server that checks nothing and answers oddly: npm oauth2-mock-server. The token URL says
// how, as in /token?mode=noexp; without a mode it answers well.
//
// environment: PEERS
// stdout:      {"issuer": "http://localhost:…"}
import { installed, ready } from './ready.mjs';

const { OAuth2Server } = await installed('oauth2-mock-server/dist/index.mjs');

const modes = {
  noexp: (answer) => { delete answer.body.expires_in; },
  strexp: (answer) => { answer.body.expires_in = '3600'; },
  floatexp: (answer) => { answer.body.expires_in = 3600.5; },
  negexp: (answer) => { answer.body.expires_in = -5; },
  hugeexp: (answer) => { answer.body.expires_in = 9007199254740993; },
  notype: (answer) => { delete answer.body.token_type; },
  badtype: (answer) => { answer.body.token_type = 'mac'; },
  lower: (answer) => { answer.body.token_type = 'bearer'; },
  more: (answer) => { answer.body.scope = 'read write admin'; },
  less: (answer) => { answer.body.scope = 'read'; },
  empty: (answer) => { answer.body = {}; },
  429: (answer) => { answer.statusCode = 429; answer.body = { error: 'slow_down' }; },
  401: (answer) => { answer.statusCode = 401; answer.body = { error: 'invalid_client' }; },
  403: (answer) => { answer.statusCode = 403; answer.body = ''; },
  unregistered: (answer) => { answer.statusCode = 400; answer.body = { error: 'computer_says_no', error_description: 'no' }; },
};

const server = new OAuth2Server();
await server.issuer.keys.generate('RS256');
await server.start(0, '127.0.0.1');
server.service.on('beforeResponse', (answer, request) => {
  modes[new URL(request.url, 'http://localhost').searchParams.get('mode')]?.(answer);
});
ready({ issuer: server.issuer.url });
