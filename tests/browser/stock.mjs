// The unmodified npm protoo-client as a stock client: it must stop after a redirect and its close with 4000, and come
// back after 4503. Against a small server of its own; with --ws against a scheduler or the wrong node; with --ws and
// --back against the right node, which must close it with 4503: one line of JSON says when that is due.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';

const require = createRequire(import.meta.url);
const protoo = require('protoo-client');
// protoo-client's own dependency.
const { server: WebSocketServer } = createRequire(require.resolve('protoo-client'))('websocket');

/** Longer than protoo-client's first pauses: who comes back does so within this. */
const QUIET_MS = 4_000;
const WITHIN_MS = 10_000;

const { values } = parseArgs({
  options: { ws: { type: 'string' }, room: { type: 'string', default: 'stock' }, back: { type: 'boolean' } },
});
try {
  const against = values.back ? comesBack : followsNothing;
  const results = values.ws ? [await against(address(values.ws))] : await againstOwnServer();
  console.log(JSON.stringify({ ok: true, results }));
  process.exit(0);
} catch (error) {
  console.log(JSON.stringify({ ok: false, failure: error.message }));
  process.exit(1);
}

function address(base) {
  const url = new URL(base.replace(/^http/, 'ws'));
  url.searchParams.set('roomId', values.room);
  url.searchParams.set('peerId', 'stock');
  return url.href;
}

/** Connects; a redirect must come, then the close, and no second connection. */
async function followsNothing(url) {
  const client = connect(url);
  await until(
    () => client.seen.includes('close'),
    () => `no close: saw ${client.seen.join(', ')}`,
  );
  await pause(QUIET_MS);
  assert.deepEqual(client.seen, ['open', 'notification redirect', 'close']);
  const { location, node, epoch } = client.redirect;
  assert.ok(location.startsWith('ws') && node && epoch > 0, `redirect: ${JSON.stringify(client.redirect)}`);
  return { what: 'redirect, then close 4000: it stays away', seen: client.seen, node, location };
}

/** Connects to what closes with 4503 once; it must come back and stay. */
async function comesBack(url) {
  const client = connect(url);
  const says = () => `saw ${client.seen.join(', ')}`;
  const changes = () => client.seen.filter((what) => !what.startsWith('notification'));
  await until(() => changes().length >= 1, says);
  if (values.back) console.log(JSON.stringify({ event: 'open' }));
  await until(() => changes().length >= 2, says);
  const left = Date.now();
  await until(() => changes().length >= 3, says);
  assert.deepEqual(changes(), ['open', 'disconnected', 'open']);
  client.peer.close();
  return { what: 'close 4503: it comes back', seen: client.seen, ms: Date.now() - left };
}

async function againstOwnServer() {
  const http = createServer((_, response) => response.writeHead(404).end());
  let closed = 0;
  const accept = (request) => {
    const socket = request.accept('protoo', request.origin);
    if (request.resourceURL.pathname === '/redirect') {
      const data = { location: 'ws://127.0.0.1/', node: 'n', epoch: 1, ticket: '' };
      socket.sendUTF(JSON.stringify({ notification: true, method: 'redirect', data }));
      socket.close(4000, 'redirect');
    } else if (closed++ === 0) socket.close(4503, 'node_leaving');
  };
  new WebSocketServer({ httpServer: http }).on('request', accept);
  await new Promise((listening) => http.listen(0, '127.0.0.1', listening));
  const base = `ws://127.0.0.1:${http.address().port}`;
  return [await followsNothing(`${base}/redirect`), await comesBack(`${base}/leaving`)];
}

function connect(url) {
  const peer = new protoo.Peer(new protoo.WebSocketTransport(url));
  const client = { peer, seen: [], redirect: undefined };
  for (const event of ['open', 'failed', 'disconnected', 'close']) peer.on(event, () => client.seen.push(event));
  peer.on('notification', ({ method, data }) => {
    client.seen.push(`notification ${method}`);
    if (method === 'redirect') client.redirect = data;
  });
  return client;
}

async function until(reached, says) {
  for (const deadline = Date.now() + WITHIN_MS; !reached(); await pause(20)) {
    if (Date.now() > deadline) throw new Error(says());
  }
}

function pause(ms) {
  return new Promise((done) => setTimeout(done, ms));
}
