// What every peer does: it says on one line of stdout, as JSON, that it is ready and where, and it ends when
// its stdin does, so that no test that dies leaves one behind.
export function ready(facts) {
  process.stdout.write(JSON.stringify(facts) + '\n');
  process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();
}

// A package of .peers/npm, whose place the environment names: this file stands outside of it.
export const installed = (path) => import(`${process.env.PEERS}/npm/node_modules/${path}`);
